"""A report draws its step from a trace of exactly its launch, where one was kept, and says how to get one."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from page_reader import read

from preflight.cli import main
from preflight.trace import client
from preflight.trace.result import TraceResult

ROOT = Path(__file__).parents[2]
LAUNCH = [
    "accelerate", "launch", "--config_file", "fsdp2.yaml", "train_trainer.py",
    "--model_name_or_path", ".", "--max_length", "128", "--per_device_train_batch_size", "8",
    "--output_dir", "out",
]  # fmt: skip
T4, SMALL = ["--device", "t4-16"], ["--device", "small:0.12"]
CASES = {
    "as written": ["check", *T4, "--", *LAUNCH],
    "with a setting": ["check", *T4, "--set", "seq_len=64", "--", *LAUNCH],
    "with data": ["check", *T4, "--dataset", "rows.jsonl", "--", *LAUNCH],
    "rewritten": ["fix", *SMALL, "--", *LAUNCH],
    "a remedy edits a setting": ["fix", *SMALL, "--set", "micro_batch_size=8", "--", *LAUNCH],
    "a plan file": ["estimate", "plan.yaml", *T4, "--set", "seq_len=32"],
}
WATCHED = """
import sys
from preflight.cli import main
code = main(sys.argv[1:])
print(*(n for n in ("torch", "transformers", "accelerate") if n in sys.modules), file=sys.stderr)
print("preflight.trace.kept" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


class Door:
    """The commands, in a folder with a launch and with a cache of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "examples" / "tiny-llama", folder, dirs_exist_ok=True)

    def page(self, *words: str) -> str:
        """Return the page that a command writes beside what it prints."""
        name, *rest = words
        assert main([name, "--report", "page.html", *rest]) in (0, 1)
        return (self.folder / "page.html").read_text()

    @property
    def kept(self) -> Path:
        """The one trace that was kept."""
        (path,) = (self.folder / "cache").rglob("*.json")
        return path


@pytest.fixture
def door(tmp_path, monkeypatch) -> Door:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Door(tmp_path)


@pytest.fixture(scope="module")
def results() -> dict[str, TraceResult]:
    """What the tracing process has found in this file; it runs for the first command only."""
    return {}


@pytest.fixture(autouse=True)
def one_tracing_process(results, monkeypatch) -> None:
    """Which job a command has traced is what these tests ask, not what the trace says."""
    run = client._run

    def once(*job: Any) -> TraceResult:
        if not results:
            results["first"] = run(*job)
        return results["first"]

    monkeypatch.setattr(client, "_run", once)


def command_said(page: str) -> str:
    found = re.search(r'two steps[^:]*:</p>\s*<pre class="command">([^<]*)</pre>', page)
    assert found is not None, "no command stands below the picture"
    return html.unescape(found[1])


@pytest.mark.launch
@pytest.mark.parametrize("name", CASES)
def test_the_command_below_the_picture_makes_the_next_page_a_traced_one(name, door):
    (door.folder / "rows.jsonl").write_text('{"num_tokens": 90}\n{"num_tokens": 12}\n')
    (door.folder / "preflight.toml").write_text('[plan]\nsequence_kind = "padded"\n')
    plan = {"model": ".", "engine": "single", "seq_len": 128, "micro_batch_size": 2}
    (door.folder / "plan.yaml").write_text(json.dumps(plan))
    first = door.page(*CASES[name])
    program, *words = shlex.split(command_said(first))
    assert (program, main(words)) == ("preflight", 0)
    second = door.page(*CASES[name])
    largest = max(part["peak_bytes"] for part in json.loads(door.kept.read_text())["timeline"])
    peak = f"{largest / 2**20:.1f} MiB"

    assert "Drawn from the estimate" in first
    assert "From the trace of 20" in second
    assert "Drawn from the estimate" not in second
    assert f"live tensors, at most {peak}" in second
    assert any(f"{peak}, " in words and "Largest" in words for words in read(second).pictures)
    assert read(second).open == []


@pytest.mark.launch
def test_a_trace_of_another_plan_or_format_is_not_drawn(door):
    words = [*T4, "--", *LAUNCH]
    assert main(["trace", "--", *LAUNCH]) == 0
    other = door.page("check", "--set", "seq_len=64", *words)
    same = door.page("check", *words)
    older = {k: v for k, v in json.loads(door.kept.read_text()).items() if k != "timeline"}
    door.kept.write_text(json.dumps(older))
    damaged = door.page("check", *words)

    assert "Drawn from the estimate" in other
    assert "From the trace of 20" in same
    assert "Drawn from the estimate" in damaged


@pytest.mark.launch
@pytest.mark.parametrize(("options", "looks"), [([], False), (["--report", "page.html"], True)])
def test_only_for_a_page_is_a_trace_looked_for_and_that_needs_no_torch(door, options, looks):
    run = subprocess.run(
        [sys.executable, "-c", WATCHED, "check", *options, *T4, "--", *LAUNCH],
        capture_output=True,
        text=True,
    )

    assert run.stderr.splitlines()[-2:] == ["", str(looks)]


@pytest.mark.launch
def test_what_cannot_be_traced_is_said_in_place_of_a_command(door):
    page = door.page("check", *T4, "--set", "torch_compile=true", "--", *LAUNCH)

    assert "cannot run this one: torch.compile is not traced (<code>--set torch_compile" in page
    assert "preflight trace --" not in page


@pytest.mark.launch
def test_a_check_says_that_the_copy_must_be_there_first(door):
    page = door.page("check", *SMALL, "--", *LAUNCH)

    assert "after <code>preflight fix</code> has written the copy" in page

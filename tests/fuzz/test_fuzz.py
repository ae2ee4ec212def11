"""No input makes preflight fail, hang or touch a file: hostile ones one by one, and a slice of the fuzzer's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COUNT = "1500"
"""Of the slice; `python tests/fuzz/run_fuzz.py` runs 20,000."""
COMMANDS = "400"
"""Of every command's; `python tests/fuzz/run_fuzz.py --commands` draws 20,000."""


def fuzz(*words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(HERE / "run_fuzz.py"), *words]
    return subprocess.run(line, capture_output=True, text=True, env=env)


def test_every_hostile_input_is_answered():
    done = fuzz("--hostile")

    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 150


def test_a_slice_of_fuzzed_inputs_is_answered():
    done = fuzz("--count", COUNT, "--seed", "4")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{COUNT} inputs")


def test_a_slice_of_every_command_is_answered():
    done = fuzz("--commands", "--count", COMMANDS, "--seed", "3")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{COMMANDS} inputs")


def test_no_command_is_forgotten_and_the_audit_sees_what_it_is_for(tmp_path, monkeypatch):
    for name in (HERE, HERE.parent):
        monkeypatch.syspath_prepend(str(name))
    import fuzz_commands
    from fuzz_grammar import Draw

    from preflight.commands import COMMANDS as ALL

    drawn = {fuzz_commands.drawn(Draw(number)).command.split()[0] for number in range(2_000)}
    assert drawn >= set(ALL) - {"trace"}  # which is rare: it runs PyTorch
    audit = fuzz_commands.Audit()
    (tmp_path / "code.py").write_text("x = 1\n")
    audit.watch(tmp_path, ())
    open(tmp_path / "inside", "w").close()
    assert audit.wrong == []
    (tmp_path.parent / "outside").write_text("")
    subprocess.run(["true"], check=True)
    exec(compile("x = 1", str(tmp_path / "code.py"), "exec"), {})
    with pytest.raises(FileNotFoundError):
        os.execv("/bin/true", ["true"])
    audit.is_on = False

    assert [words.split()[0] for words in audit.wrong] == ["wrote", "started", "ran"]


def test_the_fuzzer_sees_what_it_looks_for(tmp_path):
    """A plugin that fails, dawdles or writes is told of, or the other two tests would mean nothing."""
    slow = (
        "end = time.process_time() + 60 * loop_seconds()\n    while time.process_time() < end: pass"
    )
    for body, kind in (
        ("raise KeyError(command)", "exit code"),
        (slow, "slow"),
        ("open('made', 'w').close()", "touched"),
    ):
        plugin = (
            "import time\nfrom preflight.hookspecs import hookimpl\n"
            "from reference_loop import loop_seconds\n@hookimpl\n"
            f"def preflight_read_launch(command):\n    {body}\n"
        )
        (tmp_path / "preflight_hooks.py").write_text(plugin)
        # Ten loops are allowed where the slow one takes sixty: a neighbour that slows one of them changes nothing.
        done = fuzz("--one", str(tmp_path), "--loops", "10")

        assert (done.returncode, done.stdout.split(":")[0]) == (1, f"0 {kind}"), done.stdout

"""`preflight mcp`, asked over stdio by the package's own client: what each tool says, and what none of them does."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mcp
import pytest
from mcp.client.stdio import StdioServerParameters
from test_online import Hub

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAIN = (
    "accelerate launch --config_file fsdp2.yaml train_trainer.py --model_name_or_path ."
    " --max_length 128 --per_device_train_batch_size 8 --output_dir out"
)
JSON = ("--device", "h100-sxm-80", "--format", "json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A launch with its model's config, and nothing else."""
    place = tmp_path / "work"
    shutil.copytree(
        EXAMPLES / "tiny-llama",
        place,
        ignore=shutil.ignore_patterns("README*", ".preflight", "out"),
    )
    return place


@pytest.fixture
def hub() -> Iterator[Hub]:
    import threading

    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def asked(home: Path, *calls: tuple[str, dict[str, Any]], **env: str) -> list[Any]:
    """Return the results of tool calls over one connection; of a name alone, the tools that the server lists."""
    server = StdioServerParameters(
        command=sys.executable,
        args=["-m", "preflight", "mcp"],
        env={"HOME": str(home), "PATH": os.environ["PATH"], **env},
        cwd=str(home),
    )

    async def ask() -> list[Any]:
        async with mcp.Client(server) as client:
            listed = (await client.list_tools()).tools
            return [listed, *[await client.call_tool(*call) for call in calls]]

    return asyncio.run(ask())


def text_of(result: Any) -> str:
    return str(result.content[0].text)


def everything_under(home: Path) -> dict[str, bytes]:
    files = (path for path in home.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


def test_the_tools_say_what_the_commands_say_and_write_nothing_unasked(folder):
    home = folder.parent
    before = everything_under(home)
    launch = {"command": TRAIN, "folder": str(folder)}
    small = {**launch, "device": "tiny:0.02", "settings": {"micro_batch_size": 64}}
    _, fits, refused, would, sized, oom, wrong, nowhere = asked(
        home,
        ("check", {**launch, "device": "h100-sxm-80", "as_json": True}),
        ("check", small),
        ("fix", small),
        ("size", {"model": "Qwen/Qwen2.5-0.5B", "gpus": ["rtx4090-24"]}),
        ("explain", {"word": "oom"}),
        ("check", {**launch, "device": "h1000"}),
        ("check", {**launch, "folder": str(home / "gone")}),
    )
    typed = subprocess.run(
        [sys.executable, "-m", "preflight", "check", *JSON, "--", *TRAIN.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        check=True,
    )

    assert json.loads(text_of(fits)) == json.loads(typed.stdout)
    assert text_of(refused).startswith("preflight: does not fit") and not refused.is_error
    assert text_of(would) == text_of(refused)
    assert "rtx4090-24" in text_of(sized) and "QLoRA" in text_of(sized)
    assert "out of memory" in text_of(oom)
    assert wrong.is_error and "no device is called 'h1000'" in text_of(wrong)
    assert nowhere.is_error and "there is no folder" in text_of(nowhere)
    assert everything_under(home) == before


def test_fix_writes_its_copies_where_it_is_asked_to(folder):
    small = {"command": TRAIN, "folder": str(folder), "device": "tiny:0.3"}
    small["settings"] = {"micro_batch_size": 256, "activation_checkpointing": "none"}  # type: ignore[assignment]
    own = everything_under(folder)
    _, written = asked(folder.parent, ("fix", {**small, "write": True}))
    now = everything_under(folder)

    assert not written.is_error, text_of(written)
    assert {path: now[path] for path in own} == own
    written_files = now.keys() - own.keys()
    assert written_files and all("/.preflight/" in path for path in written_files)


def test_nothing_is_downloaded_unless_it_is_asked_for(folder, hub):
    launch = {"command": TRAIN.replace("_path .", "_path me/fresh"), "folder": str(folder)}
    launch["device"] = "h100-sxm-80"
    home = folder.parent
    env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home / "hub")}
    _, offline = asked(home, ("check", launch), **env)
    unasked = list(hub.asked)
    _, online = asked(home, ("check", {**launch, "online": True}), **env)

    assert text_of(offline).startswith("preflight: unknown") and unasked == []
    assert text_of(online).startswith("preflight: fits") and hub.asked != []


def test_a_trace_is_kept_only_where_it_is_asked_for(folder):
    """The real worker runs once: that nothing is stored can be seen by no cheaper thing."""
    before = everything_under(folder.parent)
    words = {"command": TRAIN, "folder": str(folder), "settings": {"engine": "single"}}
    _, traced = asked(folder.parent, ("trace", words))

    assert not traced.is_error, text_of(traced)
    assert "backward" in text_of(traced)
    assert everything_under(folder.parent) == before


def test_a_tool_that_may_write_or_download_says_so_to_its_client(tmp_path):
    (listed,) = asked(tmp_path)
    tools = {tool.name: tool for tool in listed}
    asking = {"check": {"online"}, "fix": {"write"}, "trace": {"keep", "trust_remote_code"}}

    assert set(tools) == {"check", "fix", "size", "explain", "trace"}
    for name, tool in tools.items():
        options = tool.input_schema["properties"]
        switches = {key for key, option in options.items() if option.get("type") == "boolean"}
        assert switches - {"as_json"} == asking.get(name, set())
        assert all(options[key]["default"] is False for key in switches)
        assert tool.annotations.read_only_hint is (name not in asking)

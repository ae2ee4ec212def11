"""`mcp`: check, fix, size, explain and trace as tools of a Model Context Protocol server, for agents.

Every tool is a command of preflight in a process of its own: what it prints is the answer, and nothing that breaks
there ends the server, whose stdout carries the protocol. Nothing is started, written or downloaded unless an argument
of the tool says so. Tools and schemas are made by the package `mcp` from the functions below.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from preflight.commands.options import DOES_NOT_FIT, FITS
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.streams import is_terminal, say
from preflight.version import __version__

ABOUT = """\
Serve check, fix, size, explain and trace to an agent, over stdin and stdout (Model Context
Protocol). No tool starts a training; only `fix` with write, `check` with online and `trace`
with keep or trust_remote_code do more than read."""

EPILOG = """\
examples:
  preflight mcp                                  wait for a client on stdin
  claude mcp add preflight preflight mcp         tell a client how to start it

needs the package mcp: pip install "mcp>=2", in the environment of preflight
exit: 0 the client has gone; 2 the package is not there
"""
INSTALL = 'pip install "mcp>=2", in the environment of preflight'
INSTRUCTIONS = (
    "preflight estimates the GPU memory of a training launch before anything is started. Ask `check` about a command"
    " before you start it or submit it; `does not fit` is sure, `fits` holds for every reading of the launch, and"
    " `unknown` names the option that settles it. Do not treat unknown as fits."
)
START = "import sys; sys.path.remove(''); from preflight.__main__ import start; start()"
"""The command line, without the folder that is asked about on the path: its `yaml.py` would be imported."""
Settings = Mapping[str, Any] | None
Words = Sequence[str]


def parser(name: str) -> Parser:
    """Return what the command takes: no option at all."""
    return Parser(name, ABOUT, f"preflight {name}", EPILOG)


def run(name: str, args: list[str]) -> int:
    """Serve until the client leaves."""
    parser(name).parse_args(args)
    if not (hasattr(sys.stdin, "buffer") and hasattr(sys.stdout, "buffer")):
        raise BadInput.one("an MCP server needs a stdin and a stdout", fix="its client starts it")
    server = serving()
    if is_terminal(sys.stdin):
        say("preflight: waiting for a client on stdin; Ctrl-C ends it\n")
    server.run("stdio")
    return FITS


def serving() -> Any:
    """Return the server with its tools; raise BadInput where the package `mcp` is not there, or is older than 2."""
    try:
        server_of = importlib.import_module("mcp.server").MCPServer
        annotations = importlib.import_module("mcp_types").ToolAnnotations
    except (ImportError, AttributeError) as error:
        raise BadInput.one(
            "an MCP server needs the package mcp, of 2.0 or later", fix=INSTALL
        ) from error
    server = server_of("preflight", version=__version__, instructions=INSTRUCTIONS)
    for tool, is_read_only in TOOLS.items():
        hints = annotations(
            title=f"preflight {tool.__name__}",
            read_only_hint=is_read_only,
            destructive_hint=False,
            open_world_hint=False,
        )
        server.tool(annotations=hints, structured_output=False)(tool)
    return server


def check(
    command: str,
    folder: str = ".",
    device: str = "",
    settings: dict[str, Any] | None = None,
    as_json: bool = False,
    online: bool = False,
) -> str:
    """Estimate and judge a launch, and say what would make it fit. Starts and writes nothing.

    command: the launch as it would be typed, e.g. "accelerate launch --config_file fsdp2.yaml train.py".
    folder: where it would be typed. device: a GPU key such as h100-sxm-80, or NAME:GIB.
    settings: plan fields that the files do not say, e.g. {"seq_len": 4096, "model": "Qwen/Qwen3-8B"}.
    as_json: the whole report as JSON. online: download the model's config.json if it is not there.
    """
    words = [*_on(device), *_settings(settings), *_if(as_json, "--format", "json")]
    return _answer("check", [*words, *_if(online, "--online"), "--", *_command(command)], folder)


def fix(
    command: str,
    folder: str = ".",
    device: str = "",
    settings: dict[str, Any] | None = None,
    allow: list[str] | None = None,
    write: bool = False,
) -> str:
    """Say which changes make a launch fit, with the diff; with write, put the changed copies into .preflight/.

    The user's own files are never changed, and nothing is started. allow: ids of remedies that change what is
    trained (qlora, seq_len, optimizer_8bit), which are used only where the user asked for them.
    Without write this is a check: it shows what would be written.
    """
    allowed = [word for id in allow or () for word in ("--allow", id)]
    words = [*_on(device), *_settings(settings), *allowed, "--", *_command(command)]
    return _answer("fix" if write else "check", words, folder)


def size(
    model: str,
    gpus: list[str] | None = None,
    settings: dict[str, Any] | None = None,
    folder: str = ".",
) -> str:
    """Say what full fine-tuning, LoRA and QLoRA of a model take, the longest rows and the fewest GPUs of each kind.

    model: a Hugging Face name, or a folder with its config.json. gpus: keys such as rtx4090-24; usual cards if empty.
    """
    cards = [word for gpu in gpus or () for word in ("--gpu", gpu)]
    return _answer("size", [model, *cards, *_settings(settings)], folder)


def explain(word: str = "") -> str:
    """Explain a remedy, a finding such as PF101, a verdict, or a word of a report; without a word, list them.

    `oom` is what to do after CUDA out of memory.
    """
    return _answer("explain", shlex.split(word), ".")


def trace(
    command: str,
    folder: str = ".",
    settings: dict[str, Any] | None = None,
    keep: bool = False,
    trust_remote_code: bool = False,
) -> str:
    """Run two steps of the launch's model by PyTorch on tensors without data, on the CPU: exact bytes, any model.

    The training script itself is not run. Takes ten seconds to a minute. keep: store the result, so that a report of
    the same launch shows it. trust_remote_code: run the Python code in the model's folder.
    """
    words = [*_settings(settings), *_if(not keep, "--no-cache")]
    words += _if(trust_remote_code, "--trust-remote-code")
    return _answer("trace", [*words, "--", *_command(command)], folder)


TOOLS: Mapping[Callable[..., str], bool] = {
    check: False,
    fix: False,
    size: True,
    explain: True,
    trace: False,
}
"""Tool -> whether it only ever reads: the others have an argument that makes them write or download."""


def _answer(name: str, words: Words, folder: str) -> str:
    """Return what a command prints; raise what the client shows as an error where it gives no answer."""
    where = os.path.abspath(os.path.expanduser(folder))
    if not os.path.isdir(where):
        raise _tool_error(f"there is no folder {where}")
    done = subprocess.run(
        [sys.executable, "-c", START, name, *words],
        cwd=where,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "120"},
        check=False,
    )
    said = "\n".join(text.strip("\n") for text in (done.stdout, done.stderr) if text.strip())
    if done.returncode not in (FITS, DOES_NOT_FIT):
        raise _tool_error(said or f"preflight {name} ended with {done.returncode}")
    return said


def _tool_error(message: str) -> Exception:
    """Return an error whose message reaches the client; the package hides those of any other kind."""
    error: Exception = importlib.import_module("mcp.server.mcpserver.exceptions").ToolError(message)
    return error


def _command(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise _tool_error(f"no shell would take this command: {error}") from error
    if not words:
        raise _tool_error("no command is given")
    return words


def _on(device: str) -> Iterator[str]:
    if device:
        yield from ("--device", device)


def _if(is_asked: bool, *words: str) -> Words:
    return words if is_asked else ()


def _settings(settings: Settings) -> Iterator[str]:
    """Yield plan fields as `--set` takes them."""
    for name, value in (settings or {}).items():
        written = value if isinstance(value, str) else json.dumps(value)
        yield from ("--set", f"{name}={written}")

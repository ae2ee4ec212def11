"""The one rule for files that people name: pipes, devices, folders and what is far too long are refused by name, at once."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from own_sources import own_trees

from preflight.cli import main
from preflight.files import changed_since, open_regular, read_bytes, read_text, watched, wrong_kind

MODEL = ("--model_name_or_path", "meta-llama/Llama-3.1-8B", "--max_length", "512")
READERS = {
    "config_file": ("check", "--", "accelerate", "launch", "--config_file", "{}", "sft.py", *MODEL),
    "deepspeed": ("check", "--", "torchrun", "sft.py", *MODEL, "--deepspeed", "{}"),
    "fsdp_config": (
        "check",
        "--",
        "torchrun",
        "-m",
        "trl.scripts.sft",  # of a script that nobody read, the flag may be its own
        *MODEL,
        "--fsdp_config",
        "{}",
        "--fsdp",
        "full_shard",
    ),
    "hostfile": ("check", "--", "deepspeed", "--hostfile", "{}", "sft.py", *MODEL),
    "arguments": ("check", "--", "trl", "sft", "--config", "{}"),
    "axolotl": ("check", "--", "axolotl", "train", "{}"),
    "llamafactory": ("check", "--", "llamafactory-cli", "train", "{}"),
    "swift": ("check", "--", "swift", "sft", "{}"),
    "torchtune": ("check", "--", "tune", "run", "full_finetune_distributed", "--config", "{}"),
    "torchtitan": ("check", "--", "torchrun", "-m", "torchtitan.train", "--job.config_file", "{}"),
    "script": ("check", "--", "torchrun", "{}", *MODEL),
    "model_config": ("check", "--set", "model_config={}", "--", "torchrun", "sft.py", *MODEL),
    "policy": ("check", "--policy", "{}", "--", "torchrun", "sft.py", *MODEL),
    "prices": ("check", "--prices", "{}", "--", "torchrun", "sft.py", *MODEL),
    "dataset": ("check", "--dataset", "{}", "--", "torchrun", "sft.py", *MODEL),
    "estimate": ("estimate", "{}"),
    "validate": ("validate", "{}"),
    "trace": ("trace", "--plan", "{}"),
    "size": ("size", "{}"),
    "scan": ("scan", "{}"),
}
PATIENCE_S = 10.0
LARGE = 100_000_000


class Hangs(BaseException):
    """Raised past everything that handles what a file may do."""


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Run a command in the folder of the test: its exit code and what it says; one that hangs is interrupted, code 3."""

    def hangs(*_: object) -> None:
        raise Hangs

    def run(path: str, reader: str) -> tuple[int, str]:
        signal.setitimer(signal.ITIMER_REAL, PATIENCE_S, 1)
        try:
            code = main([word.format(path) for word in READERS[reader]])
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return code, capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, hangs)
    yield run
    signal.signal(signal.SIGALRM, before)


def special(kind: str, folder: Path) -> str:
    path = folder / "special.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.write_bytes(b"")
        os.truncate(path, LARGE)
    return str(path)


@pytest.mark.parametrize("kind", ["pipe", "socket", "folder", "endless", "loop", "large"])
@pytest.mark.parametrize("reader", READERS)
def test_nothing_hangs_or_breaks_on_what_is_no_file(reader, kind, tmp_path, told):
    code, err = told(special(kind, tmp_path), reader)

    assert code in (0, 1, 2), err
    assert "Traceback" not in err and "bug" not in err


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "is a pipe, which can be read only once: write it to a file"),
        ("endless", "is a device"),
        ("socket", "is a socket"),
        ("folder", "is a folder"),
    ],
)
@pytest.mark.parametrize("reader", ["config_file", "deepspeed", "fsdp_config"])
def test_a_config_that_is_no_file_is_told_what_it_is(reader, kind, words, tmp_path, told):
    code, err = told(special(kind, tmp_path), reader)

    assert code == 2
    assert words in err and "did you mean" not in err


@pytest.mark.parametrize(
    "reader",
    ["config_file", "deepspeed", "axolotl", "torchtitan", "estimate", "validate", "policy"],
)
def test_what_is_far_too_long_is_refused_with_its_size(reader, tmp_path, told):
    code, err = told(special("large", tmp_path), reader)

    assert code == 2
    assert f"it has {LARGE:,} bytes, and no more than " in err


def test_process_substitution_is_told_as_what_it_is(tmp_path):
    command = "preflight check -- accelerate launch --config_file <(echo a) sft.py"
    done = subprocess.run(
        ["bash", "-c", command.replace("preflight", f"{sys.executable} -m preflight", 1)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 2
    assert "is a pipe, which can be read only once: write it to a file" in done.stderr


def test_a_pipe_is_not_even_opened(tmp_path):
    """Its writer would see that, and go on as if somebody had read."""
    os.mkfifo(tmp_path / "pipe")
    opened = threading.Event()

    def write() -> None:
        with open(tmp_path / "pipe", "wb"):
            opened.set()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    with pytest.raises(OSError, match="it is a pipe"):
        open_regular(str(tmp_path / "pipe"))

    assert not opened.wait(0.2)
    os.close(os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK))
    writer.join()


def test_a_file_that_grows_while_it_is_read_is_refused_too():
    with pytest.raises(OSError, match="no more than 3 are read"):
        read_bytes("/proc/self/status", 3)


def test_text_keeps_its_line_ends(tmp_path):
    (tmp_path / "f").write_bytes(b"a\r\nb\n")

    assert read_text(str(tmp_path / "f")) == "a\r\nb\n"
    assert wrong_kind(str(tmp_path / "f")) == ""
    assert wrong_kind(str(tmp_path / "g")) == wrong_kind("a\0b") == "does not exist"


@pytest.mark.parametrize("change", ["touched", "written", "replaced", "removed"])
def test_what_was_read_is_known_and_a_change_is_seen(change, tmp_path):
    path = tmp_path / "f"
    path.write_text("before")
    os.utime(path, ns=(1, 1))
    with watched() as seen:
        read_text(str(path))
    read_text(__file__)
    assert list(seen) == [str(path)] and changed_since(seen) == ()
    if change == "touched":
        path.touch()
    elif change == "written":
        path.write_text("after")
    elif change == "replaced":
        (tmp_path / "g").write_text("before")
        os.utime(tmp_path / "g", ns=(1, 1))
        (tmp_path / "g").rename(path)
    else:
        path.unlink()

    assert changed_since(seen) == (str(path),)


# One place

OWN_DATA = "a table of preflight's own, beside the module"
EXCEPTIONS = {
    "preflight/files.py": "the rule itself",
    "preflight/trust.py": "the rule for code and settings, which looks at owners too",
    "preflight/whole_file.py": "writes drafts",
    "preflight/records/run_store.py": "writes records, O_NOFOLLOW and O_NONBLOCK, regular files of the caller alone",
    "preflight/streams.py": "opens /dev/null",
    "preflight/commands/guard.py": "makes a file, which must not be there",
    "preflight/slurm/step_check.py": "writes a flag",
    "preflight/commands/guard_helper.py": "the request that the guard's Lua wrote",
    "preflight/embedded/guard_doors.py": "runs at every start of Python and imports nothing; regular files alone",
    "preflight/plugins.py": "entry points of the installed distributions",
    "preflight/node/limits.py": "/proc and /sys",
    "preflight/node/network.py": "/proc",
    "preflight/own_tables.py": "tables of preflight's own",
    "preflight/devices/prices.py": OWN_DATA,
    "preflight/models/registry.py": OWN_DATA,
    "preflight/render/glossary.py": OWN_DATA,
    "preflight/render/html_script.py": OWN_DATA,
    "preflight/search/proved.py": OWN_DATA,
    "preflight/slurm/guard_text.py": OWN_DATA,
    "preflight/studies/template_files.py": OWN_DATA,
}
"""Module -> why it opens files otherwise than by the rule."""
CHECKED = ("open_trusted", "open_own", "open_regular")
"""What returns a descriptor of a file that was looked at."""
OPENERS = {
    ("os", "open"),
    ("io", "open"),
    ("codecs", "open"),
    ("tokenize", "open"),
    ("gzip", "open"),
}
METHODS = ("read_text", "read_bytes", "open")
"""Of pathlib; a command's own read_text goes by the rule."""


def opens(tree: ast.AST) -> list[int]:
    """Return the lines on which a module opens a file that nobody looked at."""
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        what = node.func
        if isinstance(what, ast.Name) and what.id == "open":
            first = node.args[0] if node.args else None
            if not (
                isinstance(first, ast.Call)
                and isinstance(first.func, ast.Name)
                and first.func.id in CHECKED
            ):
                lines.append(node.lineno)
        elif isinstance(what, ast.Attribute) and isinstance(what.value, ast.Name):
            if (what.value.id, what.attr) in OPENERS:
                lines.append(node.lineno)
        elif isinstance(what, ast.Attribute) and what.attr in METHODS:
            # Path(...).read_text(), and not command.read_text(...)
            lines += [node.lineno] * isinstance(what.value, ast.Call)
    return lines


def test_nobody_else_opens_files_that_people_name():
    """A new reader goes by the rule without knowing it; who has a reason stands in the table, and only then."""
    found = {
        path
        for path, tree in own_trees()
        if not path.startswith("preflight/derive/") and opens(tree)
    }

    assert found == set(EXCEPTIONS)


@pytest.mark.parametrize(
    "line",
    [
        "open(path)",
        "with open(path, 'rb') as f: pass",
        "os.open(path, 0)",
        "Path(path).read_text()",
        "gzip.open(path)",
    ],
)
def test_a_module_that_opens_a_file_is_seen(line):
    assert opens(ast.parse(line)) == [1]
    assert opens(ast.parse("open(open_trusted(path), 'rb')\ncommand.read_text(path)")) == []

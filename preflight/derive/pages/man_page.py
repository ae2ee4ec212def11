"""preflight(1): the man page, made of what every command's --help says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping

from preflight.commands import COMMANDS
from preflight.commands.parser import parser_of
from preflight.derive.target import Files, Say
from preflight.version import __version__

SEE_ALSO = "accelerate(1), torchrun(1), deepspeed(1), sbatch(1)"


def man_page(version: str, top: str, helps: Mapping[str, str], about: Mapping[str, str]) -> str:
    """Return the page in man's macros: one section of preflight itself, one of every command."""
    lines = [
        ".\\\" Made by python -m preflight.derive man from the commands' own help.",
        f'.TH PREFLIGHT 1 "" "preflight {version}" "User Commands"',
        ".SH NAME",
        "preflight \\- check a training launch before anything is spawned",
        ".SH SYNOPSIS",
        *_plain(top.partition("\n")[0].removeprefix("usage: ")),
        ".SH DESCRIPTION",
        *_plain(top.partition("\n\n")[2].partition("\n\noptions:")[0]),
        ".SH EXIT STATUS",
        *_plain(top.partition("\nexit codes:\n")[2].rstrip()),
        ".SH COMMANDS",
    ]
    for name, text in helps.items():
        title = _safe(f"preflight {name}: {about[name]}")
        lines += [f'.SS "{title}"', *_plain(text)]
    return "\n".join([*lines, ".SH SEE ALSO", _safe(SEE_ALSO), ""])


def _plain(text: str) -> list[str]:
    """Return text that keeps its lines."""
    return [".nf", *map(_safe, text.rstrip().splitlines()), ".fi"]


def _safe(line: str) -> str:
    """Return a line without what man would take for a command of its own."""
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line


def files(say: Say) -> Files:
    """Yield the page of this version."""
    helps = {name: parser_of(name).format_help() for name in COMMANDS}
    about = {name: words for name, (_, words) in COMMANDS.items()}
    top = subprocess.run(
        [sys.executable, "-m", "preflight", "--help"], capture_output=True, text=True, check=True
    ).stdout
    yield "docs/preflight.1", man_page(__version__, top, helps, about)

"""preflight(1): the man page, made of what every command's --help says."""

from __future__ import annotations

from collections.abc import Mapping

SEE_ALSO = "accelerate(1), torchrun(1), deepspeed(1), sbatch(1)"


def man_page(version: str, top: str, helps: Mapping[str, str], about: Mapping[str, str]) -> str:
    """Return the page in man's macros: one section of preflight itself, one of every command."""
    lines = [
        ".\\\" Made by pytest tests/test_release.py --update-expected from the commands' own help.",
        f'.TH PREFLIGHT 1 "" "preflight {version}" "User Commands"',
        ".SH NAME",
        "preflight \\- check a training launch before anything is spawned",
        ".SH SYNOPSIS",
        *_plain(_part(top, "usage: ")),
        ".SH DESCRIPTION",
        *_plain(top.partition("\n\n")[2].partition("\n\noptions:")[0]),
    ]
    for title in ("exit codes:",):
        lines += [".SH EXIT STATUS", *_plain(_block(top, title))]
    lines.append(".SH COMMANDS")
    for name, text in helps.items():
        lines += [f".SS {_quoted(f'preflight {name}: {about[name]}')}", *_plain(text)]
    return "\n".join([*lines, ".SH SEE ALSO", _safe(SEE_ALSO), ""])


def _part(text: str, start: str) -> str:
    return text.partition("\n")[0].removeprefix(start)


def _block(text: str, title: str) -> str:
    """Return the lines below a title, to the end of the text."""
    return text.partition(f"\n{title}\n")[2].rstrip()


def _plain(text: str) -> list[str]:
    """Return text that keeps its lines."""
    return [".nf", *map(_safe, text.rstrip().splitlines()), ".fi"]


def _quoted(text: str) -> str:
    return f'"{_safe(text)}"'.replace('\\-"', '"')


def _safe(line: str) -> str:
    """Return a line without what man would take for a command of its own."""
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line

"""Console blocks of a page: what is typed, what is shown, and whether that is what was printed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

MARK = "=== typed"


def shown_on(page: str) -> list[tuple[str, list[str]]]:
    """Return every command of a page's console blocks with the lines under it, in order."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.M | re.S):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def printed_by(commands: Sequence[str], folder: Path, env: Mapping[str, str]) -> list[str]:
    """Type commands into one shell, and return what each prints, both streams in order."""
    # `echo $?` asks about the command before it, so its exit code is put back behind the mark.
    lines = [f"_code=$?; echo '{MARK}'; (exit $_code)\n{command}" for command in commands]
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=folder,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    _, *outputs = done.stdout.split(f"{MARK}\n")
    return outputs


def is_as_shown(lines: Sequence[str], output: str) -> bool:
    """Tell whether an output is what lines show: `...` is any lines, and inside a line anything."""
    pattern = "".join(
        r"(?:.*\n)*?" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n"
        for line in lines
    )
    return re.fullmatch(pattern, output) is not None

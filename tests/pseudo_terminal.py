"""A command run on a terminal of a given width: what it writes there, and which of its lines are too wide."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

NUM_LINES = 24
WORDS = re.compile(r"(?:`(?:preflight|torchrun|srun|sbatch) [^`]*`|\S)+")
"""A command between backticks is one."""
ESCAPED = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}")
LABEL = re.compile(r"  (?:at   |fix  )")
DIFF = re.compile(r"[+-]|@@ |   (?:fsdp|distributed)_")
"""A line of a file's diff."""
COMMAND = re.compile(
    r" *(?:usage: |\w+=\S* )*(?:preflight|accelerate|torchrun|eval|source|sbatch|-m preflight) "
)


def on_terminal(argv: Sequence[str], columns: int, cwd: Path, env: Mapping[str, str]) -> bytes:
    """Run a command whose three streams are one terminal; return what stands on it, lines ended by a newline."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", NUM_LINES, columns, 0, 0))
    # What $COLUMNS says would hide what the terminal says.
    own = {name: text for name, text in env.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(
        argv, cwd=cwd, env=own, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    parts: list[bytes] = []
    try:
        while part := os.read(master, 1 << 16):
            parts.append(part)
    except OSError:
        pass  # how Linux says that nobody has the other end open any more
    finally:
        os.close(master)
        process.wait()
    return b"".join(parts).replace(b"\r\n", b"\n")


def too_wide(text: str, width: int) -> list[str]:
    """Return the lines wider than a page that could be broken: neither one word, nor a command, nor a line of a diff.

    A letter that is shown escaped counts as one: it is part of a name, and names are broken nowhere.
    """
    return [
        line
        for line in text.splitlines()
        if len(ESCAPED.sub("x", line)) > width
        and len(WORDS.findall(LABEL.sub("", line))) > 1
        and not COMMAND.match(LABEL.sub("", line))
        and not DIFF.match(line)
    ]

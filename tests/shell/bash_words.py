"""What `show` is called with when a text runs in bash, and when it is read: a list of words per call."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from preflight.shell.grammar.parser import parse
from preflight.shell.grammar.text import Text, known
from preflight.shell.meaning.files import Files
from preflight.shell.meaning.state import World, state_of
from preflight.shell.reader import Leave, Reader

ENV = {"HOME": "/home/user", "USER": "user", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
ARGUMENTS = ("one", "two words", "")
_SHOW = 'exec 9>&1\nshow() { printf \'%s\\0\' "$#" "$@" >&9; }\n'
_BETWEEN = "\nprintf '\\1' >&9\n"
Calls = list[list[str]]


def calls_in_bash(texts: Sequence[str], folder: Path) -> list[Calls]:
    """Return what bash makes of texts, each in a subshell of one process."""
    whole = _SHOW + _BETWEEN.join(f"(\n{text}\n) 2>/dev/null" for text in texts)
    script = folder / "all.sh"
    script.write_bytes(os.fsencode(whole))
    done = subprocess.run(
        ["/bin/bash", "--norc", "--noprofile", str(script), *ARGUMENTS],
        env={**ENV, "PWD": str(folder)},
        cwd=folder,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return [_calls(part) for part in os.fsdecode(done.stdout).split("\1")]


def _calls(printed: str) -> Calls:
    words = printed.split("\0")[:-1]
    found: Calls = []
    while words:
        count = int(words[0])
        found.append(words[1 : 1 + count])
        del words[: 1 + count]
    return found


def calls_read(text: str, folder: Path) -> list[list[Text]]:
    """Return what the reader makes of a text."""
    world = World(Files(opens=True))
    state = state_of(world, ENV, ARGUMENTS, str(folder), known(str(folder / "all.sh")))
    found: list[list[Text]] = []

    def start(reader: Reader, argv: list[Text], own: Mapping[str, Text]) -> bool | None:
        if argv[0].known == "show":
            found.append(argv[1:])
            return True
        reader.print_unknown()
        return None

    with suppress(Leave):
        Reader(state, start).follow(parse(known(text + "\n")))
    return found

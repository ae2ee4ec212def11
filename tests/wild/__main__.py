"""Checks every launch that clones of repositories show, and counts what it is answered.

    python -m tests.wild FOLDER_OF_CLONES [--device h100-sxm-80] [--every N] [--list FILE.tsv] [-- OPTIONS]

Each folder in FOLDER_OF_CLONES is one repository. With --list, the launches of a table with the columns repo,
path and command are checked in place of those that are found; `owner/name` lies in the folder `owner+name`.
OPTIONS go to every `preflight check`, such as `--set world_size=8`.
Nothing is started, nothing is written into a clone.
"""

from __future__ import annotations

import argparse
import csv
import re
import resource
import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from .checking import answers_to
from .extraction import Launch, folder_of, launches_of
from .table import Table

ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=", re.ASCII)


def launches_in(clones: Path) -> Iterator[Launch]:
    """Yield the launches of every clone of a folder."""
    for clone in sorted(path for path in clones.iterdir() if path.is_dir()):
        yield from launches_of(clone)


def listed(table: Path, clones: Path) -> Iterator[Launch]:
    """Yield the launches that a table lists, of the clones that are there."""
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            clone = clones / row["repo"].replace("/", "+")
            words: list[str] = []
            with suppress(ValueError):
                words = shlex.split(row["command"])
            env: dict[str, str] = {}
            while words and ASSIGNMENT.match(words[0]):
                name, _, env[name] = words.pop(0).partition("=")
            if words and clone.is_dir():
                path = clone / row["path"].partition(":")[0]
                folder = folder_of(clone, path, tuple(words))
                yield Launch(row["repo"], row["path"], tuple(words), env, folder)


def main() -> int:
    """Check the launches and print the table; return 1 where preflight itself failed on one."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.wild",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("clones", type=Path)
    parser.add_argument("--device", default="h100-sxm-80")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--list", type=Path, metavar="FILE.tsv")
    own, options = sys.argv[1:], []
    if "--" in own:
        own, options = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments = parser.parse_args(own)
    clones = arguments.clones.resolve()
    found = listed(arguments.list, clones) if arguments.list else launches_in(clones)
    table = Table()
    for count, answered in enumerate(
        answers_to(islice(found, 0, None, arguments.every), arguments.device, options), 1
    ):
        table.add(answered)
        if sys.stderr.isatty():
            print(f"\r{count} launches", end="", file=sys.stderr)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    print("\n".join(table.lines()))
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB at most")
    return 1 if table.crashed else 0


if __name__ == "__main__":
    sys.exit(main())

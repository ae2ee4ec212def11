"""Shell text inside of files: a whole script, and the fences of a README."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from preflight.lazy_pattern import lazy_pattern
from preflight.values import dataclass

PLACEHOLDER = lazy_pattern(
    r"(?<=[\s=])(?:<[A-Za-z][\w .,:/-]*>|\{[A-Za-z][\w.:/-]*(?: [\w.,:/-]+)+\})(?=\s|$)"
)
"""`<your_port>` and `{number of GPUs}` in an example: what the reader puts there, one word, and no file to read from."""


@dataclass(frozen=True)
class Block:
    """A text that one shell gets."""

    line: int
    """Of the file, where the text begins."""
    text: str
    exported: Mapping[str, str] = field(default_factory=dict)
    """Variables that the file gives to the shell."""
    folder: str = ""
    """Where it starts, relative to where the file is meant to be started; the same place where empty."""


def blocks_of(path: str, text: str) -> Iterator[Block]:
    """Yield the shell texts of a file."""
    name = os.path.basename(path)
    if name.startswith("README"):
        yield from _fences(text)
    else:
        yield Block(1, text)


def lines_of(block: Block) -> Iterator[Block]:
    """Yield the lines of a text one by one, continuations joined: what is left where the whole cannot be read."""
    for number, line in joined_lines(block.text):
        yield replace(block, line=block.line + number - 1, text=line.strip())


def joined_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line; one that ends with a backslash goes on."""
    held, first = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        first = first if held else number
        if line.rstrip().endswith("\\"):
            held += line.rstrip() + "\n"
            continue
        yield first, held + line
        held = ""
    if held:
        yield first, held.rstrip("\\\n")


def _fences(text: str) -> Iterator[Block]:
    """Yield the fenced examples of Markdown, without the prompts in front of what is typed; `<your_port>` is a word there."""
    fence: list[str] = []
    start = 0
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip().startswith(("```", "~~~")):
            if start:
                yield Block(
                    start, "\n".join((*fence, ""))
                )  # as a file ends: "\\" there joins nothing
            fence, start = [], 0 if start else number + 1
        elif start:
            fence.append(with_placeholders(re.sub(r"^\s*\$ ", "", line)))


def with_placeholders(line: str) -> str:
    """Return a line of an example in which `<your_port>` is one word, as its reader takes it."""
    return PLACEHOLDER.sub(r"'\g<0>'", line)

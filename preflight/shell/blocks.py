"""Shell text inside of files: a whole script, the recipe lines of a Makefile, the fences of a README."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import field, replace

from preflight.values import dataclass

_VARIABLE = re.compile(
    r"(?:(?:export|override)\s+)*([A-Za-z_][\w.-]*)\s*(\?=|::?=|\+=|=)\s*(.*)", re.DOTALL
)
_REFERENCE = re.compile(r"\$(?:\$|\(([A-Za-z_][\w.-]*)\)|\{([A-Za-z_][\w.-]*)\}|(\([^()]*\)))")
_DEEPEST = 8


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
    if name == "Makefile":
        yield from _recipes(text)
    elif name.startswith("README"):
        yield from _fences(text)
    else:
        yield Block(1, text)


def lines_of(block: Block) -> Iterator[Block]:
    """Yield the lines of a text one by one, continuations joined: what is left where the whole cannot be read."""
    for number, line in _joined(block.text):
        yield replace(block, line=block.line + number - 1, text=line.strip())


def _joined(text: str) -> Iterator[tuple[int, str]]:
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
    """Yield the fenced examples of Markdown, without the prompts in front of what is typed."""
    fence: list[str] = []
    start = 0
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip().startswith(("```", "~~~")):
            if start:
                yield Block(start, "\n".join(fence))
            fence, start = [], 0 if start else number + 1
        elif start:
            fence.append(re.sub(r"^\s*\$ ", "", line))


def _recipes(text: str) -> Iterator[Block]:
    """Yield the recipe lines of a Makefile, each of which has a shell of its own, with make's variables filled in."""
    variables: dict[str, str] = {}
    exported: dict[str, str] = {}
    for number, line in _joined(text):
        if line.startswith("\t"):
            command = re.sub(r"^[\s@+-]+", "", line)
            yield Block(number, _filled(command, variables, 0), dict(exported))
            continue
        match = _VARIABLE.fullmatch(line.strip())
        if match is None:
            continue
        name, operator, value = match.groups()
        value = re.sub(r"\s*\\\n\s*", " ", value.partition(" #")[0]).strip()
        if operator == "+=" and name in variables:
            value = f"{variables[name]} {value}"
        if operator != "?=" or name not in variables:
            variables[name] = value
        if line.split()[0] == "export":
            exported[name] = _filled(variables[name], variables, 0)


def _filled(text: str, variables: Mapping[str, str], depth: int) -> str:
    """Return a text as make hands it on: its variables filled in, `$$` as one `$`, its functions left to be not known."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        name = match[1] or match[2]
        if name is None:
            return "${" + "make_function" + "}"
        if name in variables and depth < _DEEPEST:
            return _filled(variables[name], variables, depth + 1)
        return "${" + re.sub(r"\W", "_", name) + "}"

    return _REFERENCE.sub(value, text)

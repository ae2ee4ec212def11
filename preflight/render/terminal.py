"""The lines of an answer as a terminal takes them: what a log keeps whole is broken at the width, a command is not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import IO

from preflight.lazy_pattern import lazy_pattern
from preflight.printable import unpainted
from preflight.render.page import Page, page_for, programs_pattern
from preflight.streams import is_terminal

LABEL = lazy_pattern(r"  (?:at   |fix  )|(?:preflight|next|[^\s+-].*?:\d+): ")
"""What a line begins with that a log keeps whole: the verdict, of a launch at a place too, the next step, a fix."""


def is_typed(text: str) -> bool:
    """Tell whether a text is a command: broken in two it could not be copied."""
    return re.match(rf"(?:\w+=\S* )*(?:{programs_pattern()}) |-m ", text) is not None


def lines_for(stream: IO[str], lines: Sequence[str]) -> list[str]:
    """Return an answer's lines for a stream: as they are for a log, where somebody looks for the first or the last."""
    if not is_terminal(stream):
        return list(lines)
    page = page_for(stream)
    return [part for line in lines for part in broken(line, page)]


def broken(line: str, page: Page) -> Iterable[str]:
    """Return a line in as many as the page takes; the command that a next step ends in stands below it."""
    label = LABEL.match(line)
    if label is None or len(unpainted(line)) <= page.width:
        return [line]
    text = line[label.end() :]
    if label[0].startswith(" "):
        return [line] if is_typed(text) else page.wrap(text, label[0], " " * len(label[0]))
    if label[0] == "next: ":
        words, colon, command = line[len("next") + 1 :].partition(": ")
        return [*page.wrap(f"next:{words}{colon.strip()}"), *([f"  {command}"] if colon else [])]
    return page.wrap(line)

"""A page of plain text: width, wrapping, and color where words already say it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import IO

from preflight.launchers.all import words_in_texts
from preflight.printable import painted
from preflight.streams import is_terminal
from preflight.values import dataclass

DEFAULT_WIDTH = 80
SMALLEST_WIDTH = 40

OTHER_PROGRAMS = ("preflight", "sbatch", "srun", "salloc", "python", "pip", "source", "eval")

_COLORS = {"green": "32", "yellow": "33", "red": "31", "bold": "1"}


@lru_cache(maxsize=1)
def programs_pattern() -> str:
    """Return the first words of the commands that our texts tell to type, as a pattern."""
    return "|".join(map(re.escape, (*OTHER_PROGRAMS, *words_in_texts())))


@lru_cache(maxsize=1)
def _words() -> re.Pattern[str]:
    # A command between backticks is one word: broken in two it could not be copied.
    return re.compile(rf"(?:`(?:{programs_pattern()}) [^`]*`|\S)+\s*")


@dataclass(frozen=True)
class Page:
    """How wide lines may be, and whether they may have color."""

    width: int = DEFAULT_WIDTH
    has_color: bool = False
    has_bars: bool = False
    """Whether a person looks at it, on a terminal that keeps columns."""

    def paint(self, text: str, color: str) -> str:
        """Return the text in a color, where there is any."""
        return painted(text, _COLORS[color]) if self.has_color else text

    def wrap(self, text: str, first: str = "", rest: str = "  ") -> list[str]:
        """Break a paragraph into lines; a word that is too long keeps a line of its own.

        Runs of spaces inside a line stay. Written out, because importing textwrap costs more.
        """
        lines: list[str] = []
        line, is_empty = first, True
        for part in _words().findall(text):
            if not is_empty and len(line) + len(part.rstrip()) > self.width:
                lines.append(line.rstrip())
                line, is_empty = rest, True
            line += part
            is_empty = False
        lines.append(line.rstrip())
        return lines

    def table(
        self, rows: Sequence[Sequence[str]], right: Iterable[int] = (), indent: str = "  "
    ) -> list[str]:
        """Align cells in columns, those of `right` to the right; what follows too long a line goes below it."""
        rights = set(right)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
        lines = []
        for row in rows:
            cells = [
                cell.rjust(width) if i in rights else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            line = (indent + "  ".join(cells)).rstrip()
            if len(line) <= self.width:
                lines.append(line)
                continue
            head = (indent + "  ".join(cells[:-1])).rstrip()
            if len(head) > self.width:
                lines.extend(self.wrap(" ".join(head.split()), indent, indent * 2))
            else:
                lines.append(head)
            if row[-1]:
                lines.extend(self.wrap(row[-1], indent * 3, indent * 3))
        return lines


def bar(value: int, capacity: int, scale: int, width: int) -> str:
    """Return a value as a bar of `width` characters against a capacity: `####..|  `, `######|##`.

    A bar past the mark is a value past the capacity, by however little; one that reaches no character is empty.
    """
    mark = min(width - 1, capacity * (width - 1) // scale)
    filled = min(width, -(-value * (width - 1) // scale))
    filled = min(filled, mark) if value <= capacity else max(filled + 1, mark + 2)
    cells = ["#" if at < filled else "." if at < mark else " " for at in range(width)]
    cells[mark] = "|"
    return "".join(cells)


def page_for(stream: IO[str], color: str = "auto") -> Page:
    """Return the page of a stream: a terminal's width, or 80; color as `--color`, NO_COLOR and FORCE_COLOR say."""
    is_seen = is_terminal(stream)
    has_bars = is_seen and os.environ.get("TERM") != "dumb"
    has_color = _has_color(has_bars) if color == "auto" else color == "always"
    return Page(_width(stream, is_seen), has_color, has_bars)


def _has_color(has_terminal: bool) -> bool:
    """Tell what the environment makes of color: NO_COLOR before FORCE_COLOR and CLICOLOR_FORCE, as no-color.org and
    force-color.org say; 0 forces nothing.
    """
    if os.environ.get("NO_COLOR"):
        return False
    forced = (os.environ.get(name, "") for name in ("FORCE_COLOR", "CLICOLOR_FORCE"))
    return has_terminal or any(text not in ("", "0") for text in forced)


def _width(stream: IO[str], is_seen: bool) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return max(SMALLEST_WIDTH, int(columns))
    if is_seen:
        try:
            return max(SMALLEST_WIDTH, os.get_terminal_size(stream.fileno()).columns)
        except OSError:
            return DEFAULT_WIDTH
    return DEFAULT_WIDTH

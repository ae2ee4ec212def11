"""The text of a file without what it only says: help, warnings and documentation make no adapter and load no model."""

from __future__ import annotations

import re
from bisect import bisect_right
from itertools import accumulate

from preflight.lazy_pattern import lazy_pattern

RUNS_TEXT = lazy_pattern(r"(?<![.\w])(?:exec|eval|compile)\(|\bsubprocess\b|os\.system\(")
"""Calls for which a text of several words may be what runs."""
TEXT = lazy_pattern(
    r"""\#[^\n]*
    | (?<!\w)([rRbBuUfF]{0,2})
      (?: \"{3}(.*?)(?<!\\)\"{3} | '{3}(.*?)(?<!\\)'{3} | "((?:[^"\\\n]|\\.)*)" | '((?:[^'\\\n]|\\.)*)' )""",
    re.VERBOSE | re.DOTALL,
)
"""A comment, or a text with its prefix."""
WORDS = lazy_pattern(r"\S\s+\S")


def without_messages(text: str, used: str) -> str:
    """Return the used lines of a file with every text of several words emptied, place for place.

    `used` has the lines of `text`, some of them empty. What stands in an f-string is kept, and everything where texts
    may run.
    """
    if RUNS_TEXT.search(used):
        return used
    whole, lines = text.split("\n"), used.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in whole)]
    for match in TEXT.finditer(text):
        prefix, *quoted = match.groups()
        said = next((part for part in quoted if part is not None), "")
        if prefix is None or "f" in prefix.lower() or WORDS.search(said) is None:
            continue
        first = bisect_right(starts, match.start()) - 1
        last = bisect_right(starts, match.end() - 1) - 1
        for number in range(first, last + 1):
            kept = lines[number]
            if len(kept) == len(whole[number]):  # else emptied already
                begin = max(0, match.start() - starts[number])
                end = min(len(kept), match.end() - starts[number])
                lines[number] = kept[:begin] + " " * (end - begin) + kept[end:]
    return "\n".join(lines)

"""A job script with other words in its launch line: found in the text, changed there, and read again to see that it did.

A launch line is rarely written whole: words come from variables, arrays and strings. So every place that
spells a changed word is tried, and only a text whose reading gives the wanted launch is kept.
"""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice, pairwise, product

MOST_TRIES = 24
MOST_PLACES = 4
"""Of one edit that are tried."""

Edit = list[tuple[int, int, str]]
"""(start, end, text) of one change, at each place where it may be meant."""


def edited_script(
    text: str,
    before: Sequence[str],
    after: Sequence[str],
    env: Mapping[str, str],
    line: int,
    is_wanted: Callable[[str], bool],
) -> str | None:
    """Return the script with a launch changed from one argv to another and variables set; None where no edit does it.

    `line` is where the launch stands; `is_wanted` reads a text and tells whether it launches what it should.
    """
    edits: list[Edit] = []
    matcher = difflib.SequenceMatcher(None, list(before), list(after), autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            continue
        places = _places(text, before, after, (i1, i2, j1, j2), line)
        if not places:
            return None
        edits.append(places)
    for chosen in islice(product(*edits), MOST_TRIES):
        changed = _applied(text, chosen)
        if changed is None:
            continue
        changed = with_variables(changed, env)
        if is_wanted(changed):
            return changed
    return None


def with_variables(text: str, env: Mapping[str, str]) -> str:
    """Return a script that exports variables before its first command."""
    if not env:
        return text
    lines = text.split("\n")
    at = 0
    while at < len(lines) and (not lines[at].strip() or lines[at].startswith("#")):
        at += 1
    added = [f"export {name}={shlex.quote(value)}" for name, value in env.items()]
    return "\n".join([*lines[:at], *added, *lines[at:]])


def _places(
    text: str,
    before: Sequence[str],
    after: Sequence[str],
    span: tuple[int, int, int, int],
    line: int,
) -> Edit:
    i1, i2, j1, j2 = span
    new = shlex.join(after[j1:j2])
    found: Edit = []
    if i2 > i1:
        # Words are changed or go: where they stand side by side, or the one that changed alone.
        whole = r"[\s\\]+".join(map(_spelled, before[i1:i2]))
        found += [(m.start(), m.end(), new) for m in _near(whole, text, line)]
        if i2 - i1 == 1 and j2 - j1 == 1:
            found += _value_of_option(before[i1], after[j1], text, line)
        return found[:MOST_PLACES]
    for index in range(i1 - 1, max(i1 - 6, -1), -1):
        found += [(m.end(), m.end(), " " + new) for m in _near(_spelled(before[index]), text, line)]
    if i1 < len(before):
        found += [
            (m.start(), m.start(), new + " ") for m in _near(_spelled(before[i1]), text, line)
        ]
    return found[:MOST_PLACES]


def _value_of_option(old: str, new: str, text: str, line: int) -> Edit:
    """Return where the value of `--name=value` stands alone, in a variable or behind its name."""
    name, equals, value = old.partition("=")
    if equals and new.startswith(name + "="):
        old, new = value, new[len(name) + 1 :]
    patterns = [rf"(?<=[=\s\"'(]){re.escape(old)}(?=[\s\"';)]|$)"]
    return [
        (m.start(), m.end(), shlex.quote(new))
        for p in patterns
        if old
        for m in _near(p, text, line)
    ]


def _spelled(word: str) -> str:
    """Return a pattern for a word as a script may spell it: bare, or in quotes."""
    bare = re.escape(word)
    return rf"(?<![\w./=-])(?:\"{bare}\"|'{bare}'|{bare})(?![\w./=-])"


def _near(pattern: str, text: str, line: int) -> Iterator[re.Match[str]]:
    """Yield matches outside comments, those nearest above the launch's line first."""
    found = []
    for match in re.finditer(pattern, text, re.MULTILINE):
        number = text.count("\n", 0, match.start()) + 1
        begin = text.rfind("\n", 0, match.start()) + 1
        if text[begin : match.start()].lstrip().startswith("#"):
            continue
        found.append((abs(line - number) + (1_000 if number > line + 30 else 0), match))
    yield from (match for _, match in sorted(found, key=lambda item: item[0]))


def _applied(text: str, changes: Sequence[tuple[int, int, str]]) -> str | None:
    """Return the text with every change made; None where two of them overlap."""
    ordered = sorted(changes)
    for (_, end, _), (start, _, _) in pairwise(ordered):
        if start < end:
            return None
    for start, end, new in reversed(ordered):
        text = text[:start] + new + text[end:]
    return text

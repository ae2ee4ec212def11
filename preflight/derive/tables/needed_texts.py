"""preflight/scripts/uncounted/needed_texts.json: the texts of which one stands in whatever a sign's pattern finds.

A script that has none of them need not be searched for the sign, and its pattern need not be compiled.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from preflight.derive.tables.json_rows import in_rows
from preflight.derive.target import Files, Say
from preflight.scripts.uncounted.sign_words import PATTERNS

PATH = "preflight/scripts/uncounted/needed_texts.json"
SHORTEST = 3
"""Letters; shorter ones stand in any script."""
MOST = 64
"""Texts of one sign."""
EMPTY, NOTHING = frozenset({""}), frozenset[str]()
Part = tuple[Any, Any]

_OF_RE = "re._" if sys.version_info >= (3, 11) else "sre_"
parser, codes = (importlib.import_module(f"{_OF_RE}{name}") for name in ("parser", "constants"))
"""What `re` compiles a pattern by; it has no public name."""


def files(say: Say) -> Files:
    rows = {name: needed_texts(pattern) for name, pattern in sorted(PATTERNS.items())}
    yield PATH, in_rows({"signs": {name: sorted(texts) for name, texts in rows.items() if texts}})


def needed_texts(pattern: str) -> frozenset[str]:
    """Return texts, without regard to case, of which one stands in all that a pattern finds; none where nothing is sure."""
    texts = _of_sequence(parser.parse(pattern))
    least = frozenset(t for t in texts if not any(each in t for each in texts - {t}))
    return least if _worth(least) >= SHORTEST else NOTHING


def _of_sequence(items: Iterable[Part]) -> frozenset[str]:
    """Return what is needed of the one part that is the most telling."""
    return max(_of_parts(items), key=lambda texts: (_worth(texts), -len(texts)), default=NOTHING)


def _of_parts(items: Iterable[Part]) -> Iterator[frozenset[str]]:
    run = EMPTY
    for part in items:
        exact = _exact(part)
        if exact and len(run) * len(exact) <= MOST:
            run = _behind(run, exact)
            continue
        yield run
        run = exact if len(exact) <= MOST and exact else EMPTY
        code, value = part
        if code is codes.SUBPATTERN:
            yield _of_sequence(value[-1])
        elif code is codes.BRANCH:
            branches = [_of_sequence(branch) for branch in value[1]]
            yield NOTHING.union(*branches if all(map(_worth, branches)) else ())
        elif code in (codes.MAX_REPEAT, codes.MIN_REPEAT) and value[0]:
            yield _of_sequence(value[2])
    yield run


def _exact(part: Part) -> frozenset[str]:
    """Return all texts that a part finds, folded; none where they are too many to write down."""
    code, value = part
    if code is codes.LITERAL:
        return frozenset({chr(value).casefold()})
    if code in (codes.AT, codes.ASSERT, codes.ASSERT_NOT):
        return EMPTY  # where, and not what
    if code is codes.IN and all(each is codes.LITERAL for each, _ in value):
        return frozenset(chr(letter).casefold() for _, letter in value)
    if code is codes.SUBPATTERN:
        return _exact_sequence(value[-1])
    if code is codes.BRANCH:
        branches = [_exact_sequence(branch) for branch in value[1]]
        return NOTHING.union(*branches if all(branches) else ())
    if code is codes.MAX_REPEAT and not value[0] and value[1] == 1:
        once = _exact_sequence(value[2])
        return once | EMPTY if once else NOTHING
    return NOTHING


def _exact_sequence(items: Iterable[Part]) -> frozenset[str]:
    run = EMPTY
    for part in items:
        exact = _exact(part)
        run = _behind(run, exact) if len(run) * len(exact) <= MOST else NOTHING
    return run


def _behind(run: frozenset[str], then: frozenset[str]) -> frozenset[str]:
    return frozenset(before + after for before in run for after in then)


def _worth(texts: frozenset[str]) -> int:
    return min(map(len, texts), default=0)

"""Words in braces: `{a,b}`, `{1..9..2}` and `{a..e}`, made into several before anything is filled in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from preflight.lazy_pattern import lazy_pattern
from preflight.shell.grammar.syntax import Literal, Piece

MOST_WORDS = 10_000
MOST_BRACES = 64
"""Pairs in one word: a word with more is an attack, and stays as it is written."""
Unit = str | Piece
"""A character outside of quotes, or a piece that braces do not look into."""
_RANGE = lazy_pattern(r"(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.(-?\d+))?")


def brace_words(pieces: Sequence[Piece]) -> list[tuple[Piece, ...]]:
    """Return the words that a word's braces make; the word itself where it has none."""
    units: list[Unit] = []
    for piece in pieces:
        units.extend(piece.text if isinstance(piece, Literal) else (piece,))
    if "}" not in units or not 0 < units.count("{") <= MOST_BRACES:
        return [tuple(pieces)]
    return [_pieces(word) for word in _words(units)[:MOST_WORDS]]


def _pieces(units: Sequence[Unit]) -> tuple[Piece, ...]:
    found: list[Piece] = []
    for unit in units:
        if isinstance(unit, str):
            if found and isinstance(found[-1], Literal):
                found[-1] = Literal(found[-1].text + unit)
            else:
                found.append(Literal(unit))
        else:
            found.append(unit)
    return tuple(found)


def _words(units: list[Unit]) -> list[list[Unit]]:
    """Return the words of the first braces that are any, each with those of what is in and behind them."""
    for start, unit in enumerate(units):
        if unit != "{":
            continue
        commas, depth, end = [], 0, -1
        for place in range(start + 1, len(units)):
            if units[place] == "{":
                depth += 1
            elif units[place] == "}":
                if not depth:
                    end = place
                    break
                depth -= 1
            elif units[place] == "," and not depth:
                commas.append(place)
        if end < 0:
            continue
        items: list[list[Unit]] = []
        if commas:
            edges = [start, *commas, end]
            for left, right in pairwise(edges):
                items += _words(units[left + 1 : right])
        else:
            inside = units[start + 1 : end]
            if all(isinstance(one, str) for one in inside):
                items = [list(word) for word in _range("".join(map(str, inside)))]
        if items:
            behind = _words(units[end + 1 :])
            if len(items) * len(behind) > MOST_WORDS:
                return [units]
            return [[*units[:start], *item, *rest] for item in items for rest in behind]
    return [units]


def _range(text: str) -> list[str]:
    """Return what `1..9..2` counts; nothing where it is no range."""
    match = _RANGE.fullmatch(text)
    if match is None:
        return []
    first, last = match[1], match[2]
    is_number = first[-1].isdigit() and last[-1].isdigit()
    if first[-1].isdigit() != last[-1].isdigit() or max(map(len, match.group(1, 2))) > 18:
        return []
    low, high = (int(first), int(last)) if is_number else (ord(first), ord(last))
    step = max(1, abs(int(match[3] or 1)))
    if abs(high - low) // step >= MOST_WORDS:
        return []
    numbers = range(low, high + 1, step) if low <= high else range(low, high - 1, -step)
    if not is_number:
        return [chr(number) for number in numbers]
    is_padded = any(re.match(r"-?0\d", one) for one in (first, last))
    width = max(len(first), len(last)) if is_padded else 0
    return [f"{number:0{width}d}" if width else str(number) for number in numbers]

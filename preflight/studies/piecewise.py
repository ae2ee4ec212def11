"""A quantity over places on a line, as few quadratics that give its exact values: what a formula is, found by asking it.

A memory term is a polynomial in the micro batch or the length, of degree two at most, with kinks where a maximum
changes sides or a size is rounded up. Three places give a quadratic; it is held against the formula at a few places
further on, and where it fails, bisection finds the last place that it holds for. There the next one begins.
A page's sliders then need these few coefficients and no formula.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

from preflight.values import dataclass

MOST_PIECES = 8
"""More of them are no formula with a kink or two, but a table."""
ROUNDING = 1 << 16
"""Bytes by which one quadratic over all places may be off where it is asked, as a formula rounds up token by token."""

Coefficients = tuple[float, float, float]


@dataclass(frozen=True)
class Piece:
    """One quadratic, and the last place that it holds for: c0 + c1 x + c2 x^2, rounded."""

    last: int
    coefficients: Coefficients

    def at(self, place: int) -> int:
        """Return the value at a place, in the arithmetic that a browser has too."""
        return value_at(self.coefficients, place)


def value_at(coefficients: Coefficients, place: int) -> int:
    """Return the nearest whole number of a quadratic, as JavaScript's `Math.floor(y + 0.5)`."""
    c0, c1, c2 = coefficients
    return int((c0 + (c1 + c2 * place) * place + 0.5) // 1)


def pieces_of(value: Callable[[int], int], places: Sequence[int]) -> tuple[Piece, ...] | None:
    """Return the pieces of a quantity over ascending places, or None where they are too many.

    `value` is asked at about ten places, and some more around each kink; where an unasked place
    lies on no quadratic of its neighbours, it is not found.
    """
    # Most terms are one quadratic all along; what rounds up by the token is off it by a little everywhere.
    middle = places[(len(places) - 1) // 2]
    whole = _quadratic(value, sorted({places[0], middle, places[-1]}))
    probes = _probes(0, len(places) - 1)
    if all(abs(value_at(whole, places[i]) - value(places[i])) <= ROUNDING for i in probes):
        return (Piece(places[-1], whole),)
    pieces: list[Piece] = []
    first, end = 0, len(places) - 1
    while first <= end:
        if len(pieces) == MOST_PIECES:
            return None
        coefficients = _quadratic(value, places[first : first + 3])
        last = _extent(value, places, coefficients, first, end)
        pieces.append(Piece(places[last], coefficients))
        first = last + 1
    return tuple(pieces)


def probed(places: Sequence[int]) -> tuple[int, ...]:
    """Return the places that every quantity is asked at."""
    return tuple(places[i] for i in _probes(0, len(places) - 1))


def _probes(first: int, last: int) -> tuple[int, ...]:
    """Return where a quadratic up to the last place is tried: where all are asked anyway, if two of those are left."""
    inner = [i for i in _quarters(0, last) if i > first + 1]
    if len(inner) < 2:
        inner = _quarters(first, last)
    every = {first, first + 1, *inner, last - 1, last}
    return tuple(sorted(i for i in every if first <= i <= last))


def _quarters(first: int, last: int) -> list[int]:
    quarter = (last - first) // 4
    return [first + quarter, (first + last) // 2, last - quarter]


def _extent(
    value: Callable[[int], int],
    places: Sequence[int],
    coefficients: Coefficients,
    first: int,
    end: int,
) -> int:
    """Return the last index up to which a quadratic gives the value."""

    def holds(index: int) -> bool:
        return value_at(coefficients, places[index]) == value(places[index])

    if all(holds(i) for i in _probes(first, end)):
        return end
    after = _quadratic(value, places[max(first, end - 2) : end + 1])
    crossing = _crossing(coefficients, after, places)
    low, high = min(first + 2, end), end
    if crossing is not None and low <= crossing < end:
        # Where the next quadratic takes over is known from both: two questions, and not seven.
        if holds(crossing):
            low = crossing
        if not holds(crossing + 1):
            high = crossing + 1
    if holds(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low


def _crossing(left: Coefficients, right: Coefficients, places: Sequence[int]) -> int | None:
    """Return the last index before two quadratics change places."""
    before: float | None = None
    for index, place in enumerate(places):
        gap = (left[0] - right[0]) + ((left[1] - right[1]) + (left[2] - right[2]) * place) * place
        if before is not None and (before < 0) != (gap < 0):
            return index - 1
        before = gap
    return None


def _quadratic(value: Callable[[int], int], places: Sequence[int]) -> Coefficients:
    """Return the polynomial through one, two or three places, by Newton's divided differences."""
    points = [(place, value(place)) for place in places]
    if len({y for _, y in points}) == 1:
        return float(points[0][1]), 0.0, 0.0
    slopes = [
        Fraction(after[1] - before[1], after[0] - before[0]) for before, after in pairwise(points)
    ]
    x0, y0 = points[0]
    c1 = slopes[0] if slopes else Fraction(0)
    c2 = Fraction(0)
    if len(slopes) == 2:
        c2 = (slopes[1] - slopes[0]) / (points[2][0] - x0)
    x1 = points[1][0] if slopes else x0
    return float(y0 - c1 * x0 + c2 * x0 * x1), float(c1 - c2 * (x0 + x1)), float(c2)

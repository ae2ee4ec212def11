"""Quadratics found by asking: what they give is what was asked about, at places nobody asked too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from preflight.studies.piecewise import MOST_PIECES, ROUNDING, pieces_of

PLACES = tuple(range(1024, 16385, 128))
WORST_BETWEEN = 2.5
"""How much more a kink can be off at a place that is not asked than where it is, over all kinks in these places."""
coefficient = st.integers(0, 1 << 20)
"""Bytes per token, and per token and token: a model's are of that size."""


def at(pieces, place):
    return next(piece for piece in pieces if place <= piece.last).at(place)


@given(st.integers(0, 1 << 40), coefficient, st.integers(0, 64), st.integers(1, 64))
def test_one_quadratic_is_one_piece_and_exact(constant, linear, quadratic, parts):
    """Also where only every so many tokens make a whole byte."""

    def value(x):
        return constant + linear * x + quadratic * x * x // 128 * parts

    pieces = pieces_of(value, PLACES)

    assert len(pieces) == 1
    assert all(at(pieces, x) == value(x) for x in PLACES)


@given(st.integers(1024, 16384), coefficient, coefficient, st.sampled_from([min, max]))
def test_a_kink_between_two_lines_is_found_where_it_is(place, one, other, choose):
    def value(x):
        return (1 << 34) + choose(one * (x - place), other * (x - place))

    pieces = pieces_of(value, PLACES)

    assert len(pieces) <= 3
    assert max(abs(at(pieces, x) - value(x)) for x in PLACES) <= WORST_BETWEEN * ROUNDING


def test_places_are_asked_a_dozen_times_and_not_all():
    asked = set()

    def value(x):
        asked.add(x)
        return max(3_000_000 * x, 1 << 33)

    pieces = pieces_of(value, PLACES)

    assert len(pieces) == 2
    assert len(asked) <= 16
    assert all(at(pieces, x) == max(3_000_000 * x, 1 << 33) for x in PLACES)


def test_what_jumps_everywhere_is_no_formula():
    def value(x):
        return (x * 7919 % 10007) << 20

    assert pieces_of(value, PLACES) is None


def test_steps_are_found_up_to_a_few():
    def value(x):
        return (1 << 20) << (x - 1).bit_length()

    pieces = pieces_of(value, PLACES)

    assert 4 <= len(pieces) <= MOST_PIECES
    assert all(at(pieces, x) == value(x) for x in PLACES)


@given(st.lists(st.integers(1, 1 << 20), min_size=1, max_size=3, unique=True))
def test_few_places_are_always_exact(places):
    values = {x: x * x * 1_000_003 % 99_991 for x in places}
    pieces = pieces_of(values.__getitem__, sorted(places))

    assert all(at(pieces, x) == y for x, y in values.items())

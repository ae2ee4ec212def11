"""Which layers are run: every neighbourhood of the deep model is shown, and no more than that."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from preflight.trace.compose import _around, _with_ends, shallow_depth

kinds = st.lists(st.sampled_from("abc"), min_size=1, max_size=24)


@given(kinds)
def test_every_layer_has_a_stand_in_with_its_neighbours(layers):
    depth = shallow_depth(layers)
    tokens = _with_ends(layers)
    shown = [tokens[i] for i in depth.kept]

    assert len(depth.stand_ins) == len(layers)
    assert all(
        _around(tokens, i) == _around(shown, stand_in) for i, stand_in in enumerate(depth.stand_ins)
    )


def test_equal_layers_need_five():
    """First, second, any, last but one, last."""
    depth = shallow_depth(["a"] * 80)

    assert depth.kept == (0, 1, 2, 3, 79)
    assert depth.stand_ins == (0, 1, *[2] * 76, 3, 4)


def test_a_period_is_shown_once_in_the_middle():
    layers = ["s", "s", "s", "f"] * 16

    assert len(shallow_depth(layers).kept) <= 12

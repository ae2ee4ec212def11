"""Forms for any number of turns, from traces with a few: loops that follow one another, and runs of equal events."""

from __future__ import annotations

import pytest

from preflight.derive.costs.expert_loops import told_apart, turns_of, with_experts
from preflight.derive.costs.loops import NotAlike, Turns, joined_levels
from preflight.derive.costs.token_loops import TURNS as OF_TOKENS
from preflight.derive.costs.token_loops import loops_over_tokens
from preflight.derive.layouts.small_models import small_config


def levels_of(num_turns):
    """A layer that keeps something in every turn, frees all of it at once, and loops again."""
    events = [("before", 4)]
    for _ in range(num_turns):
        events += [("row", 6), ("copy", 2), ("row", -2)]
    events += [("between", 8)]
    events += [("copy", -2)] * num_turns
    for _ in range(num_turns):
        events += [("work", 2), ("row", -4), ("work", -2), ("gradient", 2)]
    events += [("before", -4), ("between", -8)]
    now: dict[str, int] = {}
    levels = [({}, {})]
    for name, count in events:
        now = {**now, name: now.get(name, 0) + count}
        levels.append(({k: n for k, n in now.items() if n}, {}))
    return levels


ALL = {"row": "rows", "copy": "copies", "gradient": "gradients", "work": "works"}
TURNS = Turns(6, 10, lambda name, each: (ALL[name], each))


@pytest.mark.parametrize("num_turns", [7, 40])
def test_levels_of_any_number_of_turns_have_the_peaks_of_a_loop_that_turns_so_often(num_turns):
    sizes = {"before": 3, "between": 5, "row": 7, "copy": 11, "gradient": 13, "work": 17}
    sizes |= {every: num_turns * sizes[one] for one, every in ALL.items()}

    def heights(levels):
        return [sum(count * sizes[name] for name, count in others.items()) for others, _ in levels]

    found, real = (
        heights(joined_levels(levels_of(6), levels_of(10), TURNS)),
        heights(levels_of(num_turns)),
    )

    assert max(found) == max(real)
    assert found[-1] == real[-1]
    assert set(found) <= set(real)


def test_traces_that_differ_in_more_than_their_turns_are_not_joined():
    other = levels_of(10)
    other[-1] = ({"between": 1}, {})

    with pytest.raises(NotAlike):
        joined_levels(levels_of(6), other, TURNS)


def test_what_every_expert_adds_is_what_all_of_them_have():
    few = [{"C": 1, "E": 6, "T*k": 60, "Te*1": 10, "w:router": 18, "w:norm": 3, "T*1": 20}]
    many = [{"C": 1, "E": 10, "T*k": 60, "Te*1": 6, "w:router": 30, "w:norm": 3, "T*1": 20}]
    turns = turns_of(few, many)

    assert turns.grown("Te*1", 2) == ("T*k", 2)
    assert turns.grown("w:norm", 4) == ("w:router", 4)
    assert turns.grown("C", 8) == ("E", 8)
    with pytest.raises(NotAlike):
        turns.grown("T*1", 2)
    assert [*told_apart(few, many)[1][0]] == ["E", "w:router", "C", "T*k", "w:norm", "T*1", "Te*1"]


@pytest.mark.parametrize("model_type", ["mixtral", "qwen2_moe", "deepseek_v3"])
def test_a_small_mixture_has_as_many_experts_as_a_loop_is_traced_with(model_type):
    config = with_experts(small_config(model_type), 10)

    assert {
        config.get(name, 10) for name in ("num_experts", "num_local_experts", "n_routed_experts")
    } == {10}


@pytest.mark.parametrize(("model_type", "loops"), [("mamba", True), ("bamba", False)])
def test_a_layer_that_makes_more_tensors_of_a_longer_sequence_loops_over_its_tokens(
    model_type, loops
):
    assert loops_over_tokens(model_type) is loops


def test_what_every_token_of_a_batch_adds_is_what_all_of_them_have():
    assert OF_TOKENS.grown("B*h", 4) == ("T*h", 4)
    assert OF_TOKENS.grown("B", 2) == ("T*1", 2)
    assert OF_TOKENS.grown("C", 8) == ("L*1", 8)
    with pytest.raises(NotAlike):
        OF_TOKENS.grown("LL", 2)

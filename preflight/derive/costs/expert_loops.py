"""Layers that loop over their experts, as those before transformers 5.0 do: how they are traced, and what grows with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preflight.derive.costs.loops import NotAlike, Turns
from preflight.formulas.adapters.linear_experts import LINEAR_EXPERTS, LOOPED_STACKS
from preflight.model import ModelSpec
from preflight.versions.transformers import FUSES_EXPERTS

FEW, MANY = 6, 10
"""Experts of the models that are traced: an odd factor each, which no element's size and no power of two has, so that
what all experts have is not mistaken for some of what one has."""
SHAPES = ((5, 96), (3, 160), (5, 192))
"""Sequences and their length, by variant: every expert has as many tokens, whether it is one of few or of many, and
every length is whole rows of 32, to which the kernel of fp32 attention pads what it keeps of its sums."""
UNPACKING_SHAPES = ((3, 1920), (6, 1440), (5, 960))
"""The same on a packed base: more tokens for each expert than a fused product takes."""
NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
Sizes = Sequence[Mapping[str, int]]
"""The named sizes of one layer, by variant."""


def loops_over_experts(model: ModelSpec, versions: Mapping[str, str]) -> bool:
    """Tell whether a type's layers take their experts one by one in some releases."""
    is_looped = model.model_type in LINEAR_EXPERTS | LOOPED_STACKS
    return is_looped and not FUSES_EXPERTS.holds_in(versions)


def with_experts(config: Mapping[str, Any], num_experts: int) -> dict[str, Any]:
    """Return a small config with another number of experts."""
    return {**config, **{name: num_experts for name in NUM_EXPERTS if name in config}}


def told_apart(few: Sizes, many: Sizes) -> tuple[Sizes, Sizes]:
    """Return the sizes of a layer with few and with many experts in the order in which they are meant: what grows with
    the experts, what does not, and what each has the less of the more there are."""

    def place(name: str) -> int:
        before, after = few[0][name], many[0][name]
        return 0 if after > before else 1 if after == before else 2

    names = sorted((name for name in few[0] if name in many[0]), key=place)
    ordered = [[{name: sizes[name] for name in names} for sizes in some] for some in (few, many)]
    return ordered[0], ordered[1]


def turns_of(few: Sizes, many: Sizes) -> Turns:
    """Return what a loop over experts adds with every expert more, by the named sizes of a layer with few and many."""

    def grown(name: str, each: int) -> tuple[str, int]:
        if name == "C":
            return "E", each
        for other in few[0]:
            of_few = all(one[other] == FEW * one[name] > 0 for one in few)
            if of_few and all(one[other] == MANY * one[name] for one in many):
                return other, each
        raise NotAlike(f"{name} grows with the experts")

    return Turns(FEW, MANY, grown)

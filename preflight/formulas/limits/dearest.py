"""The most that a launch may be where something of it is bounded: a plan, and terms beside its own."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.allocator import graph_at_most
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.unpriced_names import CUDA_GRAPH
from preflight.values import dataclass


@dataclass(frozen=True)
class Dearest:
    """The most that a launch may be in what its notices leave out."""

    plan: LaunchPlan
    terms: tuple[MemoryTerm, ...]
    """Beside those of the plan."""
    names: frozenset[str]
    """What of the notices is bounded by these."""
    num_gradients: int
    """Of the model, each a tensor that stays where a step is captured."""
    without: frozenset[str] = frozenset()
    """Terms of the plan that this one does not have."""
    other: Dearest | None = None
    """The dearest of another update, in which the first one's activations are gone."""

    @property
    def updates(self) -> tuple[Dearest, ...]:
        """Return every one that a step has."""
        return (self,) if self.other is None else (self, self.other)

    def terms_beside(self, terms: Iterable[MemoryTerm]) -> tuple[MemoryTerm, ...]:
        """Return the terms of its plan with those beside them, of which a graph's pool takes all that a step does."""
        every = (*(each for each in terms if each.name not in self.without), *self.terms)
        if CUDA_GRAPH not in self.names:
            return every
        return (*every, *graph_at_most(every, self.plan, self.num_gradients))

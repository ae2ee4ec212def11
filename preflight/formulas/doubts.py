"""What a launch may do without: terms that a refusal must not rest on, by the name of the doubt that its plan has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from preflight.errors import Problem
from preflight.formulas.installed_kernels import KERNELS, is_of_layers
from preflight.memory import PHASE_MOMENTS, MemoryEstimate, MemoryTerm, Phase

LOADING = "how a script that is not here loads its model"


def _is_of_loading(term: MemoryTerm) -> bool:
    """Tell whether a term is there before the first step alone: a script may load piece by piece, or onto no device."""
    return term.moments <= {*PHASE_MOMENTS[Phase.LOAD]}


DOUBTFUL: Mapping[str, Callable[[MemoryTerm], bool]] = {
    KERNELS: is_of_layers,
    LOADING: _is_of_loading,
}
"""What notices leave unpriced that takes less -> the terms in which it does."""


def doubts_of(notices: Iterable[Problem]) -> frozenset[str]:
    """Return which of the known doubts some notices name."""
    return frozenset(notice.unpriced for notice in notices if notice.unpriced in DOUBTFUL)


def beside(estimate: MemoryEstimate, doubts: Iterable[str]) -> tuple[MemoryTerm, ...]:
    """Return the terms that no doubt is about: a refusal that rests on these alone holds in spite of them."""
    doubtful = [DOUBTFUL[name] for name in doubts]
    return tuple(term for term in estimate.terms if not any(is_of(term) for is_of in doubtful))

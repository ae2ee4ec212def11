"""Texts of a row that go through an embedding model in forwards of their own, and wait there for one backward.

losses of pairs and triplets    every column, or the first and all others (sentence-transformers 6)
losses with cached gradients    a few rows of one column at a time, and each has its backward at once
"""

from __future__ import annotations

from typing import NamedTuple

from preflight.launch import LaunchPlan
from preflight.versions.boundary import OLDEST
from preflight.versions.sentence_transformers import MERGES_COLUMNS


class Forwards(NamedTuple):
    """The forwards of one micro step, in rows of texts."""

    rows: int
    """Of the largest one, which is the last."""
    waiting: int = 0
    """Of all others, whose activations wait for its backward."""
    others: int = 0
    """How many the others are."""


def forwards_of(plan: LaunchPlan) -> Forwards:
    """Return the forwards that a micro batch of texts is cut into."""
    micro, texts = plan.micro_batch_size or 1, plan.texts_per_row or 1
    if plan.cached_rows is not None:
        return Forwards(min(micro, plan.cached_rows))
    if texts > 2 and MERGES_COLUMNS.holds_in(plan.versions):
        # where nobody says the release, as many copies of weights as an older one has
        is_sure = MERGES_COLUMNS.holds_in(plan.versions, OLDEST)
        return Forwards((texts - 1) * micro, micro, 1 if is_sure else texts - 1)
    return Forwards(micro, (texts - 1) * micro, texts - 1)


def caches_gradients(plan: LaunchPlan) -> bool:
    """Tell whether a micro step has several backwards, each of which finds gradients of the one before."""
    return plan.cached_rows is not None and plan.objective == "embedding"

"""What the CUDA caching allocator holds beyond live tensors, from the terms that churn."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.model import ModelSpec


def reserved_terms(
    terms: tuple[MemoryTerm, ...], plan: LaunchPlan, model: ModelSpec
) -> tuple[MemoryTerm, ...]:
    """Return the terms of level reserved for one rank."""
    return ()

"""Prices the replay buffer that our trainer keeps on every rank."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm

REPLAY_BUFFER_BYTES = 64 * 2**20
"""What the trainer allocates before its first step."""


@hookimpl
def preflight_memory_terms(plan: LaunchPlan) -> Iterable[MemoryTerm]:
    """Price the replay buffer."""
    yield MemoryTerm(
        name="replay buffer",
        num_bytes=REPLAY_BUFFER_BYTES,
        moments=ALWAYS,
        formula="64 * 2**20",
        source="the trainer of this example",
    )

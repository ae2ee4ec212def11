"""What the CUDA caching allocator holds beyond live tensors, in closed form.

Two rules of c10/cuda/CUDACachingAllocator.cpp, neither fitted:

1. A segment is never given back while a part of it is in use. The first step's activations and logits
   leave free segments; the optimizer states that the first `step()` creates move into them, and the
   second step's activations need new ones. So the second step holds the first step's segments and,
   again, as much as the states took of them. What a loss loses of the same segments (hooks/memory_loss.py)
   is not lost twice. Expandable segments grow instead, and lose neither.
2. A block freed on one stream is not lent to another. A side stream's pool stays as large as it ever
   was, whatever is alive in it now.

Rounding (512 B, and 2 MiB for large segments) is left to the margin of the verdict. The allocator itself,
replayed on a list of events, is preflight/caching_allocator.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, STEP_MOMENTS, Level, MemoryTerm, Moment
from preflight.units import format_gib

SOURCE = "c10/cuda/CUDACachingAllocator.cpp (torch 2.13)"


def reserved_terms(terms: tuple[MemoryTerm, ...], plan: LaunchPlan) -> Iterable[MemoryTerm]:
    """Yield the terms of level reserved that live tensors of one rank cause."""
    live = [term for term in terms if term.level is Level.ALLOCATED]
    states = sum(t.num_bytes for t in live if t.from_second_step and t.moments >= ALWAYS)
    lent = [t for t in live if t.stream == "default" and not t.moments >= ALWAYS]
    passing = max(
        sum([t.num_bytes for t in lent if moment in t.moments]) for moment in STEP_MOMENTS
    )
    lost = sum(
        t.num_bytes
        for t in terms
        if t.level is Level.RESERVED and t.stream == "default" and not t.moments >= ALWAYS
    )
    taken = min(states, passing) - lost
    if taken > 0 and not plan.expandable_segments:
        already = f", less {format_gib(lost)} that are lost anyway" if lost else ""
        yield MemoryTerm(
            "segments of the first step taken by optimizer states",
            taken,
            frozenset(STEP_MOMENTS),
            f"the smaller of states {format_gib(states)} and passing tensors "
            f"{format_gib(passing)}{already}",
            SOURCE,
            Level.RESERVED,
            from_second_step=True,
        )
    yield from _idle_side_streams(live)


def _idle_side_streams(live: list[MemoryTerm]) -> Iterable[MemoryTerm]:
    for stream in sorted({t.stream for t in live} - {"default"}):
        alive = {
            moment: sum(t.num_bytes for t in live if t.stream == stream and moment in t.moments)
            for moment in Moment
        }
        pool = max(alive.values())
        by_idle: dict[int, set[Moment]] = defaultdict(set)
        for moment in ALWAYS:
            by_idle[pool - alive[moment]].add(moment)
        for number, (idle, moments) in enumerate(sorted(by_idle.items(), reverse=True)):
            if idle:
                suffix = f", {number + 1}" if number else ""
                yield MemoryTerm(
                    f"idle pool of the {stream} stream{suffix}",
                    idle,
                    frozenset(moments),
                    f"largest {format_gib(pool)} less {format_gib(pool - idle)} in use",
                    SOURCE,
                    Level.RESERVED,
                )

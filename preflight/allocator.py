"""What the CUDA caching allocator holds beyond live tensors.

Two rules, both of how c10/cuda/CUDACachingAllocator.cpp works, neither fitted:

1. A block is never given back while its segment is in use. The first step's activations and logits
   leave free segments; the optimizer states that the first `step()` creates move into them, and the
   second step's activations need new ones. So the second step holds the first step's segments and,
   again, as much as the states took of them. Expandable segments grow instead, and lose this.
2. A block freed on one stream is not lent to another. A side stream's pool stays as large as it ever
   was, whatever is alive in it now.

Rounding (512 B, and 2 MiB for large segments) is left to the margin of the verdict.
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
    states = sum(t.num_bytes for t in live if t.from_second_step)
    coming_and_going = [t for t in live if not t.moments >= ALWAYS]
    passing = max(
        sum([t.num_bytes for t in coming_and_going if moment in t.moments])
        for moment in STEP_MOMENTS
    )
    if states and passing and not plan.expandable_segments:
        yield MemoryTerm(
            "segments of the first step taken by optimizer states",
            min(states, passing),
            frozenset(STEP_MOMENTS),
            f"the smaller of states {format_gib(states)} and passing tensors {format_gib(passing)}",
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

"""What the CUDA caching allocator holds beyond live tensors, in closed form.

Nothing here is fitted; each rule follows from how c10/cuda/CUDACachingAllocator.cpp lends blocks:

1. A block is lent only to what fits into it whole. The tensors of the loss are larger than any free block that
   layers leave, so the two never share: a forward needs what passes through a layer and, above it, what the
   loss makes. The first is free while the second is alive.
2. A free block is lent to anything smaller before new memory is asked for. The states that the first `step()`
   creates move into what the first step left, and what they take the second step needs anew, unless gradients
   and the step's own temporaries were larger than all of that. Expandable segments grow instead, by the same.
3. States that do not fit into what layers left break up the segments of the loss, and the freed gradients that
   replace them are too small for its tensors. Expandable segments join the freed ones, and lose nothing.
4. A block freed on one stream is not lent to another. A side stream's pool stays as large as it ever was,
   whatever is alive in it now.
5. A block that another stream was told to read is lent again when that stream is past it. How many of those
   there are is how far the host may run ahead: preflight/formulas/engines/fsdp1_terms.py and hooks/memory_reduce.py say it
   with terms of level reserved.
6. Nothing empties the cache between wrapping a model and its first step: the pool stays as large as sharding made
   it, and free blocks that no tensor of a step fits into lie beside the step (preflight/formulas/freed_blocks.py).
7. Requests of up to 1 MiB have a pool of their own, as if on another stream: gradients and states of an adapter
   never move into what layers left (preflight/formulas/segments.py pool_of_states).

Left to the margin of the verdict: rounding (512 B; 2 and 20 MiB for segments), and the packing of tensors of
different sizes. tests/formulas/test_allocator.py holds all this against PyTorch's own order of allocations,
traced and replayed through tests/formulas/caching_allocator.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable

from preflight.formulas.engines.rollouts import places_groups
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.launch import LaunchPlan
from preflight.memory import (
    ALWAYS,
    EVERY_STEP,
    MOMENTS,
    ONLINE_MOMENTS,
    PHASE_MOMENTS,
    STEP_MOMENTS,
    Level,
    MemoryTerm,
    Moment,
    Phase,
)
from preflight.remembered import remembered
from preflight.units import format_gib
from preflight.unpriced_names import CUDA_GRAPH

SOURCE = "c10/cuda/CUDACachingAllocator.cpp (torch 2.13)"
LOSS = frozenset(PHASE_MOMENTS[Phase.LOSS])
STAYS = ALWAYS - ONLINE_MOMENTS
"""What is there at all of these is never given back, but to the host while completions are made."""
LARGE_PAGE_BYTES = 20 * 2**20
"""By which the large pool of expandable segments grows, and gives back (kLargeBuffer, c10/core/AllocatorConfig.h)."""
KEPT_GRADIENTS = frozenset({Moment.EMBEDDING_BACKWARD, Moment.OPTIMIZER_STEP})


@remembered
def with_reserved(plan: LaunchPlan, *terms: MemoryTerm) -> tuple[MemoryTerm, ...]:
    """Return terms with what the allocator holds beyond them."""
    return (*terms, *reserved_terms(terms, plan))


def reserved_terms(terms: tuple[MemoryTerm, ...], plan: LaunchPlan) -> Iterable[MemoryTerm]:
    """Yield the terms of level reserved that live tensors of one rank cause."""
    held = [term for term in terms if term.level in (Level.ALLOCATED, Level.RESERVED)]
    yield from _idle_default_stream(held, plan.expandable_segments)
    # verl empties the cache before weights go to the engine (fsdp_workers.py rollout_mode, 0.2.0 to 0.9.1), and so does
    # OpenRLHF (trainer/ray/ppo_actor.py fit, 0.5.9 to 0.11.2)
    empties = trains_actor(plan) or places_groups(plan)
    emptied = {Moment.WEIGHT_SYNC, Moment.ROLLOUT} if empties else set()
    yield from _idle_side_streams([t for t in held if t.stream != "default"], ALWAYS - emptied)


def _idle_default_stream(held: list[MemoryTerm], expandable: bool) -> Iterable[MemoryTerm]:
    """Yield what the default stream's pool holds at the fullest moment of a step beyond the tensors alive then."""
    own = [t for t in held if t.stream == "default"]
    kept = _sum(t for t in own if _is_kept(t) and not t.from_second_step)
    states = _sum(t for t in own if _is_kept(t) and t.from_second_step)
    passing = [t for t in own if not t.moments >= STAYS]
    passing_first = [t for t in passing if not t.from_second_step]
    # What a hook knows to be idle in the loss (level reserved) is a segment of the loss all the same.
    loss = max(_at([t for t in passing if t.moments <= LOSS], moment) for moment in LOSS)
    # Rule 1: the pool is as large as its largest moment, and as layers and loss side by side.
    # Rests of blocks (level reserved, hooks/memory_segments.py) are blocks of layers too.
    layers_first = _at(passing_first, Moment.FORWARD)
    layers = _at(passing, Moment.FORWARD)
    alive_first, alive = _alive(passing_first), _alive(passing)
    pool_first = kept + max(layers_first + loss, *(alive_first[m] for m in EVERY_STEP))
    pool = kept + states + max(layers + loss, *(alive[m] for m in EVERY_STEP))
    broken = 0
    if not expandable and states:
        # Rules 2 and 3: new states move into free blocks of layers and gradients; what does not fit there
        # breaks up segments of the loss, at most all of them, and the loss of the second step asks anew.
        gradients = _sum(t for t in passing_first if is_gradient(t))
        if not gradients:
            # Gradients of another stream make no room here: the first step's blocks go to the states, the
            # temporaries of the step lie beside them, and what activations lost is asked anew.
            first, passes = pool_first - kept, alive[Moment.OPTIMIZER_STEP]
            pool = max(pool, kept + max(first, states + passes) + min(first, states))
        broken = min(loss, max(0, states + gradients - layers_first))
        step = kept + states + alive[Moment.OPTIMIZER_STEP]
        pool = max(pool, max(pool_first, step) + broken)
    # Rule 6: blocks that sharding a model left stay in the pool; nothing empties it before the first step. What
    # of them no step can use is a term of every moment, and lies beside the pool of the step.
    beside = _sum(t for t in own if t.level is Level.RESERVED and t.moments >= STAYS)
    prepared = _at(own, Moment.PREPARE) - beside
    pool_first, pool = max(pool_first, prepared), max(pool, prepared)
    # Idle is what the pool holds above the tensors that are alive at the fullest moment: that of the first
    # step in both steps, and what the second has more of from the second on.
    fullest_first = _fullest([t for t in held if not t.from_second_step])
    idle_first = pool_first - kept - _at(passing_first, fullest_first)
    idle = pool - kept - states - _at(passing, _fullest(held))
    both = max(0, min(idle_first, idle))
    sizes = f"passing through layers {format_gib(layers)}, loss {format_gib(loss)}"
    if both:
        yield MemoryTerm(
            "blocks of layers too small for the loss",
            both,
            frozenset(STEP_MOMENTS),
            f"{sizes}: never shared",
            SOURCE,
            Level.RESERVED,
        )
    if idle > both:
        yield MemoryTerm(
            "blocks that optimizer states broke up",
            idle - both,
            frozenset(STEP_MOMENTS),
            f"states {format_gib(states)}; {sizes}, of which {format_gib(broken)} broken up",
            SOURCE,
            Level.RESERVED,
            from_second_step=True,
        )


def graph_at_most(
    terms: Collection[MemoryTerm], plan: LaunchPlan, num_gradients: int
) -> Iterable[MemoryTerm]:
    """Yield what a CUDA graph of forward and backward takes at most beside a step without one.

    A step runs before it, on a stream of its own, and leaves blocks that neither the optimizer's step, on another stream,
    nor the graph's pool can have: no more than all that passes through a step. What no tensor lies in is given back as
    the capture begins (torch/cuda/graphs.py graph.__enter__, 2.13): of expandable segments all but the pages that a
    gradient, which stays, begins and ends in. The pool itself is there between two steps too. torchtitan captures once
    (torchtitan/distributed/cudagraph.py, 0.3.0).
    """
    held = [t for t in terms if t.level in (Level.ALLOCATED, Level.RESERVED) and not _is_kept(t)]
    pool = max(_at(held, moment) for moment in EVERY_STEP)
    pages = 2 * LARGE_PAGE_BYTES * num_gradients
    left = min(pool, pages) if plan.expandable_segments else pool
    left += _at(held, Moment.OPTIMIZER_STEP)
    shown = f"left by the step before {format_gib(left)}"
    step = frozenset(EVERY_STEP)
    for name, size, moments, formula in (
        ("blocks beside a CUDA graph", left, step, shown),
        (CUDA_GRAPH, pool + left, ALWAYS - step, f"{shown}, its own {format_gib(pool)}"),
    ):
        yield MemoryTerm(
            f"{name}, at most",
            size,
            moments,
            formula,
            SOURCE,
            Level.RESERVED,
            from_second_step=True,
        )


def _is_kept(term: MemoryTerm) -> bool:
    return term.level is Level.ALLOCATED and term.moments >= STAYS


def is_gradient(term: MemoryTerm) -> bool:
    """Tell whether a term lives through the step without being the loss's, as logits are that a loop keeps."""
    from_loss = Moment.LOSS_BACKWARD in term.moments and Moment.FORWARD not in term.moments
    return term.moments >= KEPT_GRADIENTS and not from_loss


def _fullest(terms: list[MemoryTerm]) -> Moment:
    """Return the moment of a step with the most tensors alive, of all streams."""
    return max(EVERY_STEP, key=_alive(terms).__getitem__)


def _idle_side_streams(held: list[MemoryTerm], there: frozenset[Moment]) -> Iterable[MemoryTerm]:
    """Yield what each side stream's pool holds at the moments that use less of it than its largest (rule 4)."""
    for stream in sorted({t.stream for t in held}):
        own = [t for t in held if t.stream == stream]
        alive = {moment: _at(own, moment) for moment in MOMENTS}
        pool = max(alive.values())
        # One term for all moments that leave the same number of bytes idle.
        by_idle: dict[int, set[Moment]] = defaultdict(set)
        for moment in there:
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


def _at(terms: Iterable[MemoryTerm], moment: Moment) -> int:
    return sum([t.num_bytes for t in terms if moment in t.moments])


def _alive(terms: Iterable[MemoryTerm]) -> dict[Moment, int]:
    """Return the bytes of live tensors at every moment."""
    sums = dict.fromkeys(MOMENTS, 0)
    for term in terms:
        for moment in term.moments if term.level is Level.ALLOCATED else ():
            sums[moment] += term.num_bytes
    return sums


def _sum(terms: Iterable[MemoryTerm]) -> int:
    return sum(t.num_bytes for t in terms)

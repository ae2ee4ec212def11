"""The same plan at other lengths, micro batches and numbers of ranks: every memory term as coefficients, for a page that adds them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

from preflight.errors import BadInput
from preflight.formulas.precision import missing_inputs
from preflight.judge import Judged, judge_plan
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.records.known import known_correction
from preflight.report import Report
from preflight.search.advise import methods_of
from preflight.studies.piecewise import Piece, pieces_of, probed
from preflight.studies.term_samples import Samples, TermKey
from preflight.units import GIB
from preflight.values import dataclass

DOUBLINGS = (-2, -1, 0, 1, 2)
SHORTEST = 128
"""Tokens below which nobody trains a language model."""
STEPS = (32, 16, 8, 4, 2, 1)
"""Into how many parts the plan's own length is divided, the first that divides it."""

NO_EDITS: Mapping[str, Any] = {}

Choice = tuple[int, int]
"""Micro batch and ranks."""


@dataclass(frozen=True)
class WhatIf:
    """Every place of the sliders of one plan, as the coefficients of its memory terms."""

    axes: Mapping[str, tuple[int, ...]]
    """Plan field -> its values, in order; a field with one value has no slider."""
    own: Mapping[str, int]
    """Where the plan itself is."""
    terms: tuple[MemoryTerm, ...]
    """One of each that hooks yield anywhere, with its bytes somewhere."""
    curves: Mapping[Choice, _Curve]
    """Micro batch and ranks -> number of a term, and its bytes over the length; a plan that cannot be is left out."""
    expandable_segments: bool
    is_cuda: bool
    evaluates: bool
    missing: bool
    """Whether something that decides the verdict is not known."""
    is_open: bool
    """Whether a value that nobody said makes another peak of the launch: the places are those of what is taken."""
    may_take: frozenset[str]
    """`more`, `less` or `either` beside the estimate, as what is not priced does: no fit, or no refusal, is sure then."""
    allocator_factor: float | None
    """What this site's runs say of the allocator's bytes."""
    capacity_bytes: int | None
    margin_bytes: int
    host_bytes: int | None


def by_method(report: Report, plugins: PluginManager, policy: Policy) -> dict[str, WhatIf]:
    """Return what would be started by how it trains, then the methods that train less of it: full, LoRA, QLoRA.

    Empty where nothing can be estimated. A method with other places than the launch's own is left out.
    """
    model = report.model
    if model is None:
        return {}
    plan = report.final_plan
    found: dict[str, WhatIf] = {}
    for method, remedy in methods_of(plan, model, report.device, plugins, policy):
        first = next(iter(found.values()), None)
        own = what_if(report, plugins, policy, {} if remedy is None else remedy.edits, first)
        if own is None and first is None:
            return {}
        if own is not None and (first is None or own.axes == first.axes):
            found[method] = own
    return found


def what_if(
    report: Report,
    plugins: PluginManager,
    policy: Policy,
    edits: Mapping[str, Any] = NO_EDITS,
    beside: WhatIf | None = None,
) -> WhatIf | None:
    """Return the terms of what would be started, with some edits, as coefficients.

    None where nothing can be estimated, or not at the lengths of what it stands beside.
    """
    try:
        plan = report.final_plan.with_edits(edits)
    except BadInput:
        return None
    if report.model is None or not plan.seq_len or not plan.micro_batch_size:
        return None
    judged = judge_plan(plan, plugins, policy, report.model, report.device)
    if judged.estimate is None or not judged.estimate.peaks:
        return None
    fine = tuple(_divided(plan.seq_len))
    found = _curves(judged, fine, plugins, pieces_of)
    if found is not None:
        return _exported(judged, fine, found, policy)
    if beside is not None and beside.axes["seq_len"] == fine:
        return None
    coarse = _possible(judged, plugins)
    found = _curves(judged, coarse, plugins, point_by_point)
    return None if found is None else _exported(judged, coarse, found, policy)


def micros_and_ranks(plan: LaunchPlan) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the places of the other two sliders."""
    assert plan.micro_batch_size is not None
    ranks = tuple(_doubled(plan.world_size, 1)) if _scales(plan) else (plan.world_size,)
    return tuple(_doubled(plan.micro_batch_size, 1)), ranks


_Curve = tuple[tuple[int, tuple[Piece, ...]], ...]
_Fit = Callable[[Callable[[int], int], Sequence[int]], "tuple[Piece, ...] | None"]


@dataclass(frozen=True)
class _Found:
    terms: tuple[MemoryTerm, ...]
    curves: Mapping[Choice, _Curve]


def point_by_point(value: Callable[[int], int], places: Sequence[int]) -> tuple[Piece, ...]:
    """Return every place as a piece of its own: the fit of what is no few quadratics."""
    return tuple(Piece(place, (float(value(place)), 0.0, 0.0)) for place in places)


def _curves(
    judged: Judged, lengths: Sequence[int], plugins: PluginManager, fit: _Fit
) -> _Found | None:
    """Return the terms and their bytes over the lengths; None where the fit finds none.

    A micro batch or number of ranks that cannot be is left out, unless it is the plan's own.
    """
    numbers: dict[TermKey, int] = {}
    terms: list[MemoryTerm] = []
    curves: dict[Choice, _Curve] = {}
    micros, every_ranks = micros_and_ranks(judged.plan)
    for choice in product(micros, every_ranks):
        samples = Samples(judged, *choice, plugins)
        try:
            curve = _curve(samples, lengths, fit)
        except BadInput:
            if choice == (judged.plan.micro_batch_size, judged.plan.world_size):
                return None
            continue
        if curve is None:
            return None
        for key, term in samples.seen().items():
            if key not in numbers:
                numbers[key] = len(terms)
                terms.append(term)
        curves[choice] = tuple((numbers[key], pieces) for key, pieces in curve.items())
    return _Found(tuple(terms), curves)


def _curve(
    samples: Samples, lengths: Sequence[int], fit: _Fit
) -> dict[TermKey, tuple[Piece, ...]] | None:
    samples.ask_all(probed(lengths))
    curve: dict[TermKey, tuple[Piece, ...]] = {}
    while len(curve) < len(samples.seen()):
        for key in samples.seen():
            if key not in curve:
                pieces = fit(samples.value_of(key), lengths)
                if pieces is None:
                    return None
                curve[key] = pieces
    return curve


def _possible(judged: Judged, plugins: PluginManager) -> tuple[int, ...]:
    """Return the halved and doubled lengths that the plan can have."""
    plan = judged.plan
    assert plan.seq_len is not None and plan.micro_batch_size is not None
    samples = Samples(judged, plan.micro_batch_size, plan.world_size, plugins)
    possible = []
    for length in _doubled(plan.seq_len, SHORTEST):
        with suppress(BadInput):
            samples.ask_all([length])
            possible.append(length)
    return tuple(possible)


def _exported(judged: Judged, lengths: tuple[int, ...], found: _Found, policy: Policy) -> WhatIf:
    plan, device, estimate = judged.plan, judged.device, judged.estimate
    assert estimate is not None
    micros, ranks = micros_and_ranks(plan)
    axes = {"seq_len": lengths, "micro_batch_size": micros, "world_size": ranks}
    capacity = None if device is None else device.capacity_bytes
    correction = known_correction(device)
    return WhatIf(
        axes=axes,
        own={name: int(getattr(plan, name)) for name in axes},
        terms=found.terms,
        curves=found.curves,
        expandable_segments=plan.expandable_segments,
        is_cuda=device is None or device.has_runtime,
        evaluates=plan.eval_micro_batch_size is not None,
        missing=bool(missing_inputs(plan, judged.model) or estimate.unknown),
        is_open=judged.readings is not None
        and judged.readings.most.peak_bytes != judged.readings.likely.peak_bytes,
        may_take=frozenset(notice.takes for notice in plan.notices if notice.unpriced),
        allocator_factor=None if correction is None else correction.allocator_factor,
        capacity_bytes=capacity,
        margin_bytes=int((capacity or 0) * policy.margin_of(plan.engine)),
        host_bytes=None if plan.host_memory_gib is None else plan.host_memory_gib * GIB,
    )


def _scales(plan: LaunchPlan) -> bool:
    """Tell whether other numbers of ranks shard the same way: over all of them, and nothing else."""
    is_sharded = plan.is_fsdp or (plan.zero_stage or 0) > 0
    is_plain = plan.ranks_per_sample == plan.expert_parallel_degree == 1
    return is_sharded and plan.shard_degree == plan.world_size > 1 and is_plain


def _doubled(value: int, least: int) -> Iterator[int]:
    """Yield a value halved and doubled twice, as far as halves are whole and not too small."""
    for power in DOUBLINGS:
        if power >= 0:
            yield value * 2**power
        elif value % 2**-power == 0 and value // 2**-power >= least:
            yield value // 2**-power


def _divided(value: int) -> Iterator[int]:
    """Yield the multiples of a part of a value, from a quarter to four times of it."""
    parts = next(parts for parts in STEPS if value % parts == 0)
    step = value // parts
    for times in range(max(1, parts // 4), 4 * parts + 1):
        if times * step >= min(SHORTEST, value):
            yield times * step

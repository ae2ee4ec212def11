"""Judging a plan: describe its model and device, add up the memory terms, and give the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from operator import attrgetter
from typing import TypeVar

from preflight.device import DeviceSpec
from preflight.errors import HookFailed, ModelNotKnown, Problem
from preflight.formulas.adapters.adapted_names import with_reached_adapters
from preflight.formulas.adapters.linear_experts import in_release
from preflight.formulas.allocator import with_reserved
from preflight.formulas.checkpoint import with_checkpoint
from preflight.formulas.engines.pipelines import each_rank, is_divisible
from preflight.formulas.layers.attention import with_default_attention
from preflight.formulas.layers.both_stacks import with_both_lengths
from preflight.formulas.layers.checkpointing import as_its_class_runs
from preflight.formulas.layers.heads import with_head
from preflight.formulas.layers.shared_keys import with_own_keys
from preflight.formulas.limits.doubts import beside, counted_among, doubts_of
from preflight.formulas.limits.left_out import with_left_out
from preflight.formulas.limits.row_limits import with_open_length
from preflight.formulas.objective import is_taught
from preflight.formulas.precision import missing_inputs
from preflight.formulas.vision import with_image_masks, with_open_images, without_unseen_layers
from preflight.launch import LaunchPlan
from preflight.libraries.of_plan import with_releases_that_know
from preflight.memory import MemoryEstimate, MemoryTerm
from preflight.model import ModelSpec
from preflight.models import with_built_tower
from preflight.peaks import estimate_peaks
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.readings import MayBe, Readings, read_all_ways
from preflight.records.known import known_correction
from preflight.remembered import remembered
from preflight.units import GIB
from preflight.unpriced_names import BESIDE_TEXT, OF_REWARDS, SCATTERED, STRIDED, TEACHER
from preflight.values import dataclass, replace
from preflight.verdict import Answer, Verdict, judge, takes_margin_at_most, with_unpriced

Item = TypeVar("Item")


@dataclass(frozen=True)
class Judged:
    """A plan with everything that was worked out about it."""

    plan: LaunchPlan
    model: ModelSpec | None
    device: DeviceSpec | None
    estimate: MemoryEstimate | None
    verdict: Verdict
    readings: Readings | None = None
    """What the plan's open values leave, where it has any; `verdict` is what all of them allow."""
    model_problem: Problem | None = None
    """Why the model that the plan names is not known; None where it is, or the plan names none."""


def judge_plan(
    plan: LaunchPlan,
    plugins: PluginManager,
    policy: Policy,
    model: ModelSpec | None = None,
    device: DeviceSpec | None = None,
    among: MayBe | None = None,
    settles: bool = True,
) -> Judged:
    """Describe model and device unless given, add up the memory terms, and judge.

    `among` has open fields of which only some values are looked at, as a search does until it has an answer; without
    `settles` nobody asks which of them decide, which is most of the readings.
    """
    model_problem = None
    try:
        model = model or plugins.first("preflight_describe_model", plan=plan)
    except ModelNotKnown as error:
        model_problem = replace(error.problems[0], severity="warning")
    device = device or plugins.first("preflight_describe_device", plan=plan)
    if model is not None:
        plan = with_releases_that_know(plan, model)
        model = with_head(plan, with_built_tower(plan, model))
        plan = with_reached_adapters(plan, model)
        plan = with_checkpoint(with_default_attention(plan, model), model)
        plan = with_open_length(with_both_lengths(plan, model), model)
        plan = with_left_out(with_open_images(plan, model), model, device)

    judging = _Judging(plan, model, device, plugins, policy, _other_models(plan, plugins))
    readings = None
    if device is not None:
        readings = read_all_ways(plan, judging.judged, among or {}, settles)
    if readings is None:
        estimate, verdict = judging.judged(plan)
    else:
        estimate, verdict = readings.shown.estimate, readings.verdict
    return Judged(plan, model, device, estimate, verdict, readings, model_problem)


def _other_models(plan: LaunchPlan, plugins: PluginManager) -> dict[str, ModelSpec]:
    """Return the reward models and the teacher that a plan names and that are known here, each with its shapes."""
    found: dict[str, ModelSpec] = {}
    teachers = (plan.reference_model,) if is_taught(plan) else ()
    for name in (*(plan.reward_models or ()), *teachers):
        named = replace(plan, model=name, model_config=None)
        try:
            model = (
                None
                if name in (None, "same")
                else plugins.first("preflight_describe_model", plan=named)
            )
        except ModelNotKnown:
            continue
        if model is not None:
            found[name] = model
    return found


@dataclass(frozen=True)
class _Judging:
    """What every reading of a plan is judged with."""

    plan: LaunchPlan
    """The plan as it stands."""
    model: ModelSpec | None
    device: DeviceSpec | None
    plugins: PluginManager
    policy: Policy
    others: Mapping[str, ModelSpec]
    """Those of shapes of their own that are known here, by name."""

    def judged(self, one: LaunchPlan) -> tuple[MemoryEstimate | None, Verdict]:
        """Return the estimate and the verdict of one reading."""
        one = self._in_its_release(one)
        missing = missing_inputs(one, self.model)
        estimate = None
        if self.model is not None:
            estimate = estimate_memory(one, self.model, self.device, self.plugins, missing)
        verdict = self._verdict(one, estimate, missing)
        moot, most, at_most = frozenset[str](), estimate, verdict
        if estimate is not None and verdict.answer is Answer.DOES_NOT_FIT:
            moot = self._refused_all_the_same(one, estimate, missing)
        elif verdict.answer in (Answer.FITS, Answer.TIGHT):
            moot, most, at_most = self._at_its_dearest(one, verdict, missing)
            if moot & {*OF_REWARDS, TEACHER, STRIDED, SCATTERED, BESIDE_TEXT}:
                estimate = most
            else:
                named = (notice.unpriced for notice in one.notices if notice.takes != "less")
                bounded = tuple(name for name in dict.fromkeys(named) if name in moot)
                verdict = replace(verdict, bounded=bounded)
        found = with_unpriced(verdict, (n for n in one.notices if n.unpriced not in moot))
        is_tighter = found.answer is Answer.FITS and at_most.answer is Answer.TIGHT
        return (most, at_most) if is_tighter else (estimate, found)

    def _in_its_release(self, one: LaunchPlan) -> LaunchPlan:
        """Return a reading in other releases with what their model takes by default, and what they leave out."""
        if self.model is None or one.versions == self.plan.versions:
            return one
        attention = self.plan.origins.get("attention")
        if one.attention is None or attention is None or not attention.may_be:
            one = with_default_attention(one, self.model)
        return with_left_out(one, self.model, self.device)

    def _verdict(
        self, one: LaunchPlan, estimate: MemoryEstimate | None, missing: tuple[str, ...]
    ) -> Verdict:
        host_bytes = None if one.host_memory_gib is None else one.host_memory_gib * GIB
        margin = self.policy.margin_of(one.engine)
        return judge(estimate, self.device, missing, margin, host_bytes, one.model)

    def _refused_all_the_same(
        self, one: LaunchPlan, estimate: MemoryEstimate, missing: tuple[str, ...]
    ) -> frozenset[str]:
        """Return what a refusal does not rest on: what is doubtful takes terms that are too large without it."""
        doubts = doubts_of(one)
        if not doubts:
            return frozenset()
        counted = counted_among(doubts, one, self.model)
        rest = _without(estimate, counted, *sorted(doubts))
        is_refused = self._verdict(one, rest, missing).answer is Answer.DOES_NOT_FIT
        return doubts if is_refused else frozenset()

    def _at_its_dearest(
        self, one: LaunchPlan, verdict: Verdict, missing: tuple[str, ...]
    ) -> tuple[frozenset[str], MemoryEstimate | None, Verdict]:
        """Return what a launch is no worse than tight in spite of, with the estimate and verdict of the dearest that it may be."""
        nothing = frozenset[str](), None, verdict
        if self.model is None or not any(notice.unpriced for notice in one.notices):
            return nothing
        from preflight.formulas.limits.bounds import dearest_of  # most launches leave nothing out

        dearest = dearest_of(one, self.model, self.others, self.device)
        found: list[tuple[MemoryEstimate, Verdict]] = []
        if dearest is None:
            return nothing
        for update in dearest.updates:
            most = estimate_memory(update.plan, self.model, self.device, self.plugins, missing)
            terms = update.terms_beside(most.terms)
            most = most if terms == most.terms else estimate_peaks(terms, missing)
            found.append((most, self._verdict(one, most, missing)))
            if not takes_margin_at_most(found[-1][1], most, self.device):
                return nothing
        return dearest.names, *max(found, key=lambda each: each[0].device_peak_bytes)


def estimate_memory(
    plan: LaunchPlan,
    model: ModelSpec,
    device: DeviceSpec | None,
    plugins: PluginManager,
    missing: tuple[str, ...] = (),
) -> MemoryEstimate:
    """Collect every plugin's terms, add what the allocator holds beyond them, and find the peaks.

    Of a pipeline it is the estimate of its fullest rank. A search comes back to plans that only who said their values
    tells apart, and these take the same.
    """
    return plugins.once(
        (*_taken_of(plan), model, device, *missing),
        lambda: _estimated(plan, model, device, plugins, missing),
    )


TAKEN_BY_VALUES = tuple(
    field.name for field in fields(LaunchPlan) if field.name not in ("origins", "version_readings")
)
"""Fields of a plan that memory may depend on: not who said the others, and not what it is in other releases."""
_taken_of = attrgetter(*TAKEN_BY_VALUES)


def _estimated(
    plan: LaunchPlan,
    model: ModelSpec,
    device: DeviceSpec | None,
    plugins: PluginManager,
    missing: tuple[str, ...],
) -> MemoryEstimate:
    pipeline = plan.pipeline
    if pipeline is not None and pipeline.rank is None and is_divisible(pipeline, model):
        ranks = (
            estimate_memory(one, part, device, plugins, missing)
            for one, part in each_rank(plan, model)
        )
        return max(ranks, key=lambda estimate: estimate.needed_bytes)
    plan = as_its_class_runs(with_image_masks(plan, model), model)
    model = without_unseen_layers(plan, in_release(plan, with_own_keys(plan, model)))
    terms = collect_terms(plan, model, plugins, device)
    every = with_reserved(plan, *terms)
    correction = plugins.once((known_correction, device), lambda: known_correction(device))
    if correction is not None:
        from preflight.records.site_correction import corrected_terms

        every = corrected_terms(every, correction)
    return _peaks(every, device is None or device.has_runtime, *missing)


@remembered
def _peaks(every: tuple[MemoryTerm, ...], is_cuda: bool, *missing: str) -> MemoryEstimate:
    return estimate_peaks(every, missing, is_cuda)


@remembered
def _without(estimate: MemoryEstimate, counted: str, *doubts: str) -> MemoryEstimate:
    """Return the peaks of what no doubt is about: many readings have the same estimate."""
    return estimate_peaks(beside(estimate, doubts, counted), estimate.unknown)


def collect_terms(
    plan: LaunchPlan, model: ModelSpec, plugins: PluginManager, device: DeviceSpec | None = None
) -> tuple[MemoryTerm, ...]:
    """Return every plugin's terms; raise HookFailed for two of one name."""
    return tuple(term for _, term in owned_terms(plan, model, plugins, device))


def owned_terms(
    plan: LaunchPlan, model: ModelSpec, plugins: PluginManager, device: DeviceSpec | None
) -> tuple[tuple[str, MemoryTerm], ...]:
    """Return every plugin's terms, each after the plugin's name; raise HookFailed for two of one name."""
    found: dict[str, tuple[str, MemoryTerm]] = {}
    for owner, item in plugins.collect(
        "preflight_memory_terms", plan=plan, model=model, device=device
    ):
        term = checked_item(item, MemoryTerm, owner, "preflight_memory_terms")
        if term.name in found:
            raise HookFailed(
                owner,
                "preflight_memory_terms",
                f"yields a second term named {term.name!r}; the first is from {found[term.name][0]}",
            )
        found[term.name] = owner, term
    return tuple(found.values())


def checked_item(item: object, wanted: type[Item], owner: str, hook: str) -> Item:
    """Return what a hook yielded; raise HookFailed, naming the plugin, where it is of another type."""
    if not isinstance(item, wanted):
        raise HookFailed(owner, hook, f"yielded {item!r}, which is not a {wanted.__name__}")
    return item

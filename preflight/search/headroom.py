"""Upwards: the fastest plan that still fits with the memory a launch leaves, for `fix --use-headroom` alone.

Every edit here undoes what saves memory at the price of time and trains the same: recomputation off, parameters
kept after their forward, states and inputs back from the host, a larger micro batch at the same global batch.
All plans that they make are timed, which costs little, and estimated from the fastest on until one fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from preflight.devices.step_time import estimate_step_time
from preflight.formulas.layers.row_averages import averages_rows
from preflight.formulas.objective import LANGUAGE_MODEL
from preflight.judge import Judged, judge_plan
from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.plugin_manager import PluginManager
from preflight.policy import Policy
from preflight.remedy import Remedy
from preflight.report import Report, TriedRemedy
from preflight.rewriting import write_checked
from preflight.search.trying import FITTING, Search, Write
from preflight.values import dataclass, replace
from preflight.verdict import Answer
from preflight.versions.transformers import WEIGHS_TOKENS

WORTH_A_CHANGE = 0.98
"""Step times above it are not worth a rewrite: they are estimates."""
NOTHING_FASTER = "no faster plan fits in the memory that is left"

Edits = Sequence[Remedy | None]


def upward_edits(plan: LaunchPlan) -> Iterator[Edits]:
    """Yield, for each setting that could buy time with memory, leaving it and every way to change it."""
    if plan.activation_checkpointing != "none":
        kept: list[Remedy | None] = [None]
        if plan.activation_checkpointing == "full" and plan.trainer == "torchtitan":
            kept.append(_edit("less_recomputation", activation_checkpointing="selective_op"))
        kept.append(_edit("no_recomputation", activation_checkpointing="none"))
        yield kept
    if plan.is_fsdp and plan.reshard_after_forward is not False and plan.shard_degree > 1:
        yield None, _edit("no_reshard", reshard_after_forward=False)
    back = {
        name: "none"
        for name in ("offload_params", "offload_optimizer")
        if getattr(plan, name) != "none"
    }
    if back:
        yield None, _edit("no_offload", **back)
    if plan.offload_activations != "none":
        yield None, _edit("no_activation_offload", offload_activations="none")
    micro, steps = plan.micro_batch_size, plan.gradient_accumulation_steps
    if micro is not None and steps > 1 and weighs_tokens(plan):
        yield (
            None,
            *(
                _edit(
                    "larger_micro_batch",
                    micro_batch_size=micro * times,
                    gradient_accumulation_steps=steps // times,
                )
                for times in range(2, steps + 1)
                if steps % times == 0
            ),
        )


def weighs_tokens(plan: LaunchPlan) -> bool:
    """Tell whether a step's loss is the same however its sequences are cut into micro batches."""
    if plan.objective not in LANGUAGE_MODEL:
        return averages_rows(plan)
    if plan.sequence_kind == "fixed":
        return True
    is_weighted = WEIGHS_TOKENS.holds_in(plan.versions)
    return plan.trainer in HF_TRAINERS and is_weighted


def use_headroom(
    report: Report,
    start: Judged,
    plugins: PluginManager,
    policy: Policy,
    write: Write = write_checked,
) -> Report:
    """Return the report with the fastest plan that fits, where it is faster than the launch as written."""
    if report.verdict.answer is not Answer.FITS or not report.may_launch or not policy.rewrite:
        return report
    assert start.model is not None
    plan, model, device = start.plan, start.model, start.device
    written = estimate_step_time(plan, model, device)
    search = Search(start, plugins, policy, write)
    found: list[_Candidate] = []
    for choice in product(*_writable(plan, plugins, write, policy.forbid)):
        path = tuple(remedy for remedy in choice if remedy is not None)
        after = plan
        for remedy in path:
            after = after.with_edits(remedy.edits)
        factor = estimate_step_time(after, model, device).factor_of(written)
        if path and factor < WORTH_A_CHANGE:
            found.append(_Candidate(after, path, factor))

    def tried(candidate: _Candidate) -> tuple[TriedRemedy, ...]:
        """Return each change with what the plan is estimated at with it and those before it."""
        after, changes = plan, []
        for remedy in candidate.path:
            after = after.with_edits(remedy.edits)
            judged = judge_plan(after, plugins, policy, model, device)
            time = estimate_step_time(after, model, device)
            assert judged.estimate is not None
            factor = time.factor_of(written)
            changes.append(
                TriedRemedy(remedy, after, judged.estimate, judged.verdict, factor, time.parts)
            )
        return tuple(changes)

    for candidate in sorted(found, key=lambda c: (round(c.factor, 2), len(c.path), c.factor)):
        judged = judge_plan(candidate.plan, plugins, policy, model, device)
        if judged.verdict.answer is not Answer.FITS:
            continue
        rewrite = search.written_as(judged, search.has_one_of(FITTING))
        if rewrite is not None:
            return replace(report, applied=tried(candidate), rewrite=rewrite)
    return replace(report, notes=(*report.notes, NOTHING_FASTER))


@dataclass(frozen=True)
class _Candidate:
    plan: LaunchPlan
    path: tuple[Remedy, ...]
    factor: float


def _writable(
    plan: LaunchPlan, plugins: PluginManager, write: Write, forbidden: frozenset[str]
) -> list[Edits]:
    """Return the edits that can be written alone; of several micro batches the first stands for all."""
    settings: list[Edits] = []
    for ways in upward_edits(plan):
        kept: list[Remedy | None] = [None]
        tried: dict[str, bool] = {}
        for remedy in ways:
            if remedy is None or remedy.id in forbidden:
                continue
            if remedy.id not in tried:
                after = plan.with_edits(remedy.edits)
                tried[remedy.id] = write(plan, after, plugins) is not None
            if tried[remedy.id]:
                kept.append(remedy)
        settings.append(kept)
    return settings


TITLES = {
    "less_recomputation": "recompute every second product instead of all",
    "no_recomputation": "turn activation checkpointing off",
    "no_reshard": "keep gathered parameters from forward to backward",
    "no_offload": "keep parameters and optimizer states on the device",
    "no_activation_offload": "keep checkpointed inputs on the device",
}
BACK_TO_DEVICE = {
    "no_offload": "offload_optimizer and offload_param device: none (ZeRO), fsdp_offload_params: false (FSDP)",
    "no_activation_offload": "activation_offloading: false",
}
"""Edits that need less of the host -> how they are written."""
IDS = (*TITLES, "larger_micro_batch")
SAME = ("less_recomputation", "no_recomputation", "no_reshard", "no_activation_offload")
"""Bit-identical; the others sum in another order, or step with another kernel."""


def _edit(id: str, **edits: object) -> Remedy:
    title = TITLES.get(id) or (
        f"micro batch {edits['micro_batch_size']},"
        f" accumulation {edits['gradient_accumulation_steps']}"
    )
    return Remedy(id, title, edits, "same" if id in SAME else "equivalent")

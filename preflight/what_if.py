"""The same plan at other lengths, micro batches and numbers of ranks, estimated one by one for the sliders of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from preflight.buckets import BUCKETS, at_peak, peaks_of_launch
from preflight.device import DeviceSpec
from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.pipeline import judge_plan
from preflight.plugins import PluginManager
from preflight.policy import Policy
from preflight.report import Report
from preflight.units import ceil_div
from preflight.values import dataclass

DOUBLINGS = (-2, -1, 0, 1, 2)
SHORTEST = 128
"""Tokens below which nobody trains a language model."""


@dataclass(frozen=True)
class Point:
    """One place of the sliders."""

    verdict: str
    device_peak_bytes: int
    phases: Mapping[str, tuple[int, ...]]
    """Phase -> bytes of every bucket, in their order."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "verdict": self.verdict,
            "device_peak_bytes": self.device_peak_bytes,
            "phases": {phase: list(sums) for phase, sums in self.phases.items()},
        }


@dataclass(frozen=True)
class WhatIf:
    """Every place of the sliders of one plan."""

    axes: Mapping[str, tuple[int, ...]]
    """Plan field -> its values, in order; a field with one value has no slider."""
    own: Mapping[str, int]
    """Where the plan itself is."""
    points: Mapping[tuple[int, ...], Point] = field(default_factory=dict)
    """A value of every axis -> what that plan is estimated at; a plan that cannot be has none."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "buckets": list(BUCKETS),
            "axes": {name: list(values) for name, values in self.axes.items()},
            "points": {
                ",".join(map(str, key)): point.to_dict() for key, point in self.points.items()
            },
        }


def what_if(report: Report, plugins: PluginManager, policy: Policy) -> WhatIf | None:
    """Estimate what would be started at other sizes; None where nothing can be estimated."""
    plan = report.applied[-1].plan if report.applied and report.rewrite else report.plan
    model, device = report.model, report.device
    if model is None or not plan.seq_len or not plan.micro_batch_size:
        return None
    axes = {
        "seq_len": tuple(_doubled(plan.seq_len, SHORTEST)),
        "micro_batch_size": tuple(_doubled(plan.micro_batch_size, 1)),
        "world_size": tuple(_doubled(plan.world_size, 1)) if _scales(plan) else (plan.world_size,),
    }
    points: dict[tuple[int, ...], Point] = {}
    for seq_len in axes["seq_len"]:
        for micro in axes["micro_batch_size"]:
            for ranks in axes["world_size"]:
                edits = {"seq_len": seq_len, "micro_batch_size": micro, **_on(plan, ranks)}
                point = _point(plan, edits, model, device, plugins, policy)
                if point is not None:
                    points[seq_len, micro, ranks] = point
    own = {name: int(getattr(plan, name)) for name in axes}
    return WhatIf(axes, own, points) if points else None


def _doubled(value: int, least: int) -> Iterator[int]:
    """Yield a value halved and doubled twice, as far as halves are whole and not too small."""
    for power in DOUBLINGS:
        if power >= 0:
            yield value * 2**power
        elif value % 2**-power == 0 and value // 2**-power >= least:
            yield value // 2**-power


def _scales(plan: LaunchPlan) -> bool:
    """Tell whether other numbers of ranks shard the same way: over all of them, and nothing else."""
    others = {
        plan.tensor_parallel_degree,
        plan.context_parallel_degree,
        plan.sequence_parallel_degree,
        plan.expert_parallel_degree,
    }
    is_sharded = plan.is_fsdp or (plan.zero_stage or 0) > 0
    return is_sharded and plan.shard_degree == plan.world_size > 1 and others == {1}


def _on(plan: LaunchPlan, ranks: int) -> dict[str, Any]:
    if ranks == plan.world_size:
        return {}
    return {
        "world_size": ranks,
        "shard_degree": ranks,
        "num_nodes": ceil_div(ranks, plan.ranks_per_node),
    }


def _point(
    plan: LaunchPlan,
    edits: Mapping[str, Any],
    model: ModelSpec,
    device: DeviceSpec | None,
    plugins: PluginManager,
    policy: Policy,
) -> Point | None:
    try:
        judged = judge_plan(plan.with_edits(edits), plugins, policy, model, device)
    except BadInput:
        return None
    estimate = judged.estimate
    if estimate is None or not estimate.peaks:
        return None
    phases = {
        peak.phase.value: tuple(at_peak(estimate, peak).values())
        for peak in peaks_of_launch(estimate, plan)
    }
    return Point(judged.verdict.answer.value, estimate.device_peak_bytes, phases)

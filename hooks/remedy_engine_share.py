"""engine_share: give the inference engine beside the ranks less of the card, five percent at a time.

Saves      room for keys and values, in rollouts and outside of them, down to what its weights, a forward and one
           sequence of the longest length need
Costs      fewer completions at a time in a rollout; updates are not touched
Safety     equivalent: completions are sampled in other batches, and trained on as before
Written as vllm_gpu_memory_utilization
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.formulas.engines.engines import engine_bytes
from preflight.formulas.engines.rollouts import has_engine
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.remedy import Remedy

STEP = 5
"""Percent of the card between one share that is tried and the next."""


@hookimpl
def preflight_remedies(
    plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None
) -> Iterable[Remedy]:
    """Take five percent of the card from the engine, again and again."""
    if device is None or not has_engine(plan):
        return
    engine = engine_bytes(plan, model, device)
    flag = launcher_of(plan).spellings.get("engine_share", "--vllm_gpu_memory_utilization ")
    percent = round(100 * engine.asked / device.capacity_bytes) - 1
    for smaller in range(percent - percent % STEP, 0, -STEP):
        if smaller * device.capacity_bytes < 100 * engine.least:
            return
        yield Remedy(
            "engine_share",
            f"give the inference engine {smaller} % of the card",
            {"generation.memory_share": smaller / 100},
            "equivalent",
            how=f"{flag}{smaller / 100:g}",
        )

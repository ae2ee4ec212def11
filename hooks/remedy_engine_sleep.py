"""engine_sleep: let the inference engine beside the ranks sleep while the policy trains.

Saves      its weights, keys and values, outside of rollouts
Costs      a wake-up, with all weights, before every rollout; updates are not touched
Safety     equivalent: completions are sampled by the same engine with the same weights
Written as vllm_enable_sleep_mode
A server (vllm_mode server, `trl vllm-serve`) takes nothing of the ranks' cards and needs cards of its own: that is
           no change of one launch alone, and is not offered
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.rollouts import generation_of, has_engine
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Put the engine to sleep between rollouts."""
    generation = generation_of(plan)
    if generation is None or not has_engine(plan) or generation.sleep:
        return
    yield Remedy(
        "engine_sleep",
        "let the inference engine sleep while the policy trains",
        {"generation.sleep": True},
        "equivalent",
        how=launcher_of(plan).spellings.get("engine_sleep", "--vllm_enable_sleep_mode true"),
    )

"""stage3_live_parameters: let ZeRO-3 keep fewer gathered parameters for their next use.

Saves      2 bytes for each element less, up to the size of the model: the default keeps a billion
Costs      layers that are used again soon are gathered again
Safety     same: the same values are gathered
Written as zero_optimization.stage3_max_live_parameters and stage3_max_reuse_distance in the DeepSpeed JSON
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.deepspeed_rules import settings_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy

SMALLER = (300_000_000, 100_000_000)
"""Elements: a layer of 7 billion parameters has 200 million, and one at hand is gathered whatever the limit."""


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Lower both limits to 300, then to 100 million elements."""
    if plan.engine != "zero3":
        return
    settings = settings_of(plan)
    for limit in SMALLER:
        edits = {
            f"deepspeed.{name}": limit
            for name in ("stage3_max_live_parameters", "stage3_max_reuse_distance")
            if getattr(settings, name) > limit
        }
        if edits:
            yield Remedy(
                "stage3_live_parameters",
                f"keep at most {limit // 1_000_000} million gathered parameters",
                edits,
                "same",
                how=", ".join(f"zero_optimization.{key[10:]}: {limit}" for key in edits),
            )

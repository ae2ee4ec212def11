"""sub_group_size: let ZeRO-3 step over smaller groups of parameters.

Saves      6 bytes and more for each element less in a group: fp32 gradients and what the step makes of them
Costs      more kernel launches in the optimizer step
Safety     equivalent: each weight is updated alone, but the gradient norm is summed group by group, so clipping
           rounds elsewhere
Written as zero_optimization.sub_group_size in the DeepSpeed JSON
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.deepspeed_rules import settings_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy

SMALLER = 100_000_000


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Step over 100 million elements at a time."""
    if plan.engine == "zero3" and settings_of(plan).sub_group_size > SMALLER:
        yield Remedy(
            "sub_group_size",
            f"step over {SMALLER // 1_000_000} million parameters at a time",
            {"deepspeed.sub_group_size": SMALLER},
            "equivalent",
            may_raise_host=True,  # pinned blocks of a group are powers of two
            how=f"zero_optimization.sub_group_size: {SMALLER}",
        )

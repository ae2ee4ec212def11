"""reshard_after_forward: free each gathered layer after its forward, gather it again for backward.

Saves      every layer's gathered copy between forward and backward
Costs      one more all-gather per layer and step
Safety     same: the same values are gathered twice
Written as fsdp_reshard_after_forward: true (FSDP2), fsdp_sharding_strategy: FULL_SHARD (FSDP1)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Reshard after forward where FSDP keeps layers gathered."""
    if plan.is_fsdp and plan.shard_degree > 1 and plan.reshard_after_forward is False:
        yield Remedy(
            "reshard_after_forward",
            "free gathered layers after their forward",
            {"reshard_after_forward": True},
            "same",
        )

"""offload_params: keep ZeRO-3's sharded weights in host memory, beside an offloaded optimizer.

Saves      2 bytes a parameter over the shard group
Costs      every gather begins with a copy over PCIe; 2 more bytes a parameter of pinned host memory
Safety     same: the weights come back as they went
Written as zero_optimization.offload_param.device: cpu, offload_param_device: cpu (accelerate).
           FSDP moves parameters and optimizer together: offload_optimizer
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Move sharded weights to the host under ZeRO-3, once the optimizer is there."""
    if (
        plan.engine != "zero3"
        or plan.offload_params != "none"
        or plan.base_quantization is not None
    ):
        return
    if plan.offload_optimizer == "cpu":
        yield Remedy(
            "offload_params",
            "keep sharded weights in host memory",
            {"offload_params": "cpu"},
            "same",
            needs_host=True,
            how="zero_optimization.offload_param.device: cpu",
        )

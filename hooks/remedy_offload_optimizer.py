"""offload_optimizer: keep master weights and optimizer states in host memory and step there.

Saves      12 bytes a parameter over the shard group (ZeRO); under FSDP, where it comes with the parameters,
           all model states
Costs      a step on the CPU, and gradients and weights over PCIe: usually the slowest change there is.
           18 bytes a parameter of host memory, over the node's ranks (Ren et al. 2021, ZeRO-Offload)
Safety     equivalent: the same AdamW in fp32, by another kernel; gradients are clipped on the host
Written as zero_optimization.offload_optimizer.device: cpu, offload_optimizer_device: cpu (accelerate);
           DeepSpeed's CPUAdam takes the optimizer's place and is compiled when it is first used.
           fsdp_offload_params: true, cpu_offload: true in the trainer's own fsdp_config, fsdp_cpu_offload
           (torchtune), training.enable_cpu_offload (torchtitan)
Not where one node would need more than 2 TiB for it, and not with bitsandbytes' optimizers: DeepSpeed would put an Adam with another weight decay in their place
           (accelerate/utils/deepspeed.py:29, 1.15.0), and FSDP's states live where the parameters do
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.formulas.lever_rules import PLAIN_ADAMW
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.remedy import Remedy
from preflight.units import ceil_div

NOTE = "needs host memory: the report's host line says how much per node"
HOST_BYTES = 18
"""A parameter: fp32 master, gradient and two states, and a 16-bit buffer (ZeRO-Offload, section 4)."""
LARGEST_HOST_BYTES = 2 * 2**40
"""Of one node: a DGX H100 has 2 TiB (NVIDIA's data sheet, 2022)."""


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Move the optimizer to the host: under FSDP with the parameters, under ZeRO alone."""
    share = ceil_div(num_trainable_params(plan, model), plan.shard_degree)
    if HOST_BYTES * share * plan.ranks_per_node > LARGEST_HOST_BYTES:
        return
    if plan.optimizer not in PLAIN_ADAMW or plan.base_quantization is not None:
        return
    if plan.offload_optimizer != "none" or plan.offload_params != "none":
        return
    edits: dict[str, Any]
    if plan.is_fsdp:
        if plan.engine == "fsdp1" and plan.sync_each_batch:
            return  # torch would lose gradients without a word
        edits, how = {"offload_params": "cpu"}, "fsdp_offload_params: true"
        one_key = launcher_of(plan).spellings.get("offload_optimizer")
        if one_key is not None:
            edits, how = {**edits, "offload_optimizer": "cpu"}, one_key
    elif plan.zero_stage:
        edits = {"offload_optimizer": "cpu", "optimizer": "deepspeed_cpu_adam"}
        how = "zero_optimization.offload_optimizer.device: cpu"
    else:
        return
    title = "parameters and optimizer" if plan.is_fsdp else "optimizer states"
    yield Remedy(
        "offload_optimizer",
        f"keep {title} in host memory, and step there",
        edits,
        "equivalent",
        needs_host=True,
        notes=(NOTE,),
        how=how,
    )

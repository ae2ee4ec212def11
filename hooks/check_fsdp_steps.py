"""PF217, PF218, PF221, PF222: what FSDP does with an optimizer step and with the gradients before it.

PF217  bitsandbytes' optimizers have no kernels for FSDP2's sharded tensors: the first step stops
PF218  FSDP1 with CPU offload, synchronising at every micro step: each micro step's gradients replace those before
       (the TODO in FlatParamHandle.prepare_gradient_for_backward, torch/distributed/fsdp/_flat_param.py, 2.13)
PF221  without synchronisation FSDP keeps whole gradients, unsharded, until the last micro step
PF222  FSDP2 returns the loss in fp16: the scaler's first scale, 65536, is not a number that fp16 has
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.optimizers import EIGHT_BIT, PAGED
from preflight.formulas.trainer_arguments import where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.versions.accelerate import KEEPS_OUTPUT_DTYPE

BITSANDBYTES = EIGHT_BIT | PAGED | {"lion_32bit", "ademamix", "rmsprop_bnb"}
"""Optimizers of bitsandbytes by the Trainer's names (transformers/trainer_optimizer.py, 5.24.0)."""


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Check optimizer, accumulation and precision against the version of FSDP."""
    if not plan.is_fsdp:
        return
    accumulates = plan.gradient_accumulation_steps > 1
    if plan.engine == "fsdp2" and plan.optimizer in BITSANDBYTES:
        yield found(
            "PF217",
            f"bitsandbytes' {plan.optimizer} cannot step FSDP2's sharded parameters",
            where_of(plan, "optimizer"),
            "--optim adamw_torch_fused, whose states FSDP2 shards, or fsdp_version: 1",
            {"optimizer": "adamw_torch_fused"},
        )
    if (
        plan.engine == "fsdp1"
        and plan.offload_params != "none"
        and accumulates
        and plan.sync_each_batch
    ):
        yield found(
            "PF218",
            "sync_each_batch with CPU offload: FSDP1 keeps the gradients of the last micro step only, and nothing says so",
            where_of(plan, "sync_each_batch"),
            "sync_each_batch false, or fsdp_version: 2",
            {"sync_each_batch": False},
        )
    elif accumulates and not plan.sync_each_batch and plan.shard_degree > 1:
        yield found(
            "PF221",
            f"whole gradients stay on every rank for {plan.gradient_accumulation_steps - 1} of"
            f" {plan.gradient_accumulation_steps} micro steps",
            where_of(plan, "gradient_accumulation_steps"),
            'accelerator_config {"gradient_accumulation_kwargs": {"sync_each_batch": true}}',
            None if plan.offload_params != "none" else {"sync_each_batch": True},
        )
    casts = not KEEPS_OUTPUT_DTYPE.holds_in(plan.versions)
    if plan.engine == "fsdp2" and plan.mixed_precision == "fp16" and casts:
        yield found(
            "PF222",
            "FSDP2 returns the loss in fp16: the first optimizer step is skipped, and each that the scaler tries at 65536",
            where_of(plan, "mixed_precision"),
            "bf16, where the device has it",
        )

"""sharding: spread model states over more ranks.

Saves      DDP to FSDP: parameters, gradients and states become a share each, and DDP's second copy of the
           gradients goes. ZeRO-1 to 2: gradients. To 3: parameters. HSDP to FSDP: all states, over the
           copies as well
Costs      gradients reduced in every micro step (stage 2), parameters gathered for every pass (stage 3, FSDP),
           over the network where the group crosses nodes
Safety     equivalent where the weights that are updated keep their dtype: the same gradients are summed in other
           groups, and reduced in the compute dtype instead of fp32 where that is 16 bits. Changes training
           where they do not: a pure bf16 model under DDP gets an fp32 master under FSDP with mixed precision.
           DDP with bitsandbytes' 8-bit optimizers to ZeRO changes training too: their scales are of 256
           elements, and a flat group's are not those of its tensors
Written as zero_optimization.stage or zero_stage; distributed_type: FSDP with an fsdp_config (accelerate), --fsdp
           and --fsdp_config (torchrun); fsdp_sharding_strategy: FULL_SHARD
Not from DDP under a packed base, under LLaMA-Factory, or for a loop of one's own, whose saving may rely on
           DDP; with bitsandbytes' optimizers to ZeRO-1 and 2, but not to FSDP, whose tensors are not theirs;
           to stage 3 not under LLaMA-Factory, which loads in another dtype there
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from preflight.formulas.engines.deepspeed_rules import (
    bucket_elements,
    largest_sub_group,
    live_parameters,
)
from preflight.formulas.lever_rules import PLAIN_ADAMW, rounds_alike
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.remedy import Remedy
from preflight.units import ceil_div
from preflight.versions.accelerate import SAVES_FSDP2
from preflight.versions.torch import HAS_FULLY_SHARD
from preflight.versions.transformers import READS_FSDP_VERSION

HAS_FSDP2 = (HAS_FULLY_SHARD, SAVES_FSDP2, READS_FSDP_VERSION)

BNB_8BIT = ("adamw_bnb_8bit", "adamw_8bit")
"""bitsandbytes' AdamW with states in device memory, by Trainer's names."""


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Offer every further step of sharding that the engine has."""
    if plan.zero_stage is not None and plan.shard_degree * plan.replicate_degree > 0:
        yield from _stages(plan, model)
    elif plan.engine == "ddp" and _may_become_fsdp(plan, model):
        yield from _fully_sharded(plan, model)
    elif plan.engine == "ddp" and _may_become_zero(plan, model):
        yield from _zero(plan)
    elif plan.is_fsdp and plan.replicate_degree > 1:
        yield _over_all(plan)


def _stages(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    stage = plan.zero_stage or 0
    if plan.world_size == 1 or plan.base_quantization is not None:
        return
    # LLaMA-Factory loads in another dtype under stage 3: what it costs there is another launch's estimate.
    highest = 2 if launcher_of(plan).loads_as_checkpoint else 3
    for higher in range(stage + 1, highest + 1):
        edits: dict[str, Any] = {"engine": f"zero{higher}"}
        if stage == 0:
            edits["shard_degree"] = plan.data_parallel_degree
        after = plan.with_edits(edits)
        gathers = higher == 3 and _gathers_as_much(after, model)
        yield Remedy(
            "sharding",
            f"ZeRO stage {stage} -> {higher}",
            edits,
            "equivalent",
            may_raise_peak=gathers,
            may_raise_host=True,
            how=f"zero_optimization.stage: {higher}",
        )


def _gathers_as_much(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether stage 3 may hold as much in passing as sharding parameters saves, in 16-bit elements."""
    partition = ceil_div(model.num_params, plan.shard_degree)
    passing = live_parameters(plan, model) + 2 * bucket_elements(plan, model)
    return (
        passing + 3 * min(partition, largest_sub_group(plan, model)) >= model.num_params - partition
    )


def _may_become_fsdp(plan: LaunchPlan, model: ModelSpec) -> bool:
    is_new = all(boundary.holds_in(plan.versions) for boundary in HAS_FSDP2)
    return (
        is_new
        and plan.world_size > 1
        and plan.data_parallel_degree == plan.world_size
        and plan.trainer in HF_TRAINERS
        and not launcher_of(plan).loads_as_checkpoint
        and plan.optimizer in PLAIN_ADAMW
        and plan.base_quantization is None
        and bool(model.layers)
    )


def _fully_sharded(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    for reshards in (False, True):
        edits = {
            "engine": "fsdp2",
            "shard_degree": plan.world_size,
            "reshard_after_forward": reshards,
            "wrap_policy": "transformer",
            "state_dict_type": "full",
            "cpu_ram_efficient_loading": False,
        }
        alike = rounds_alike(plan, plan.with_edits(edits), model)
        layers = "freeing each layer after its forward" if reshards else "layers stay gathered"
        yield Remedy(
            "sharding",
            f"DDP -> FSDP2 over {plan.world_size} ranks, {layers}",
            edits,
            "equivalent" if alike else "changes_training",
            may_raise_peak=not reshards,
            may_raise_host=True,  # fp32 copies of every rank before they are sharded (memory_host.py)
            how="distributed_type: FSDP, fsdp_version: 2, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
        )


def _may_become_zero(plan: LaunchPlan, model: ModelSpec) -> bool:
    return (
        plan.optimizer in BNB_8BIT
        and plan.world_size > 1
        and plan.data_parallel_degree == plan.world_size
        and plan.trainer in HF_TRAINERS
        and not launcher_of(plan).loads_as_checkpoint
        and plan.base_quantization is None
        and bool(model.layers)
    )


def _zero(plan: LaunchPlan) -> Iterable[Remedy]:
    """Offer stages 1 and 2, which take any optimizer that torch steps (Trainer allows an untested one)."""
    for stage in (1, 2):
        how = launcher_of(plan).spellings.get("sharding", "a DeepSpeed config with stage {stage}")
        yield Remedy(
            "sharding",
            f"DDP -> ZeRO stage {stage} over {plan.world_size} ranks",
            {"engine": f"zero{stage}", "shard_degree": plan.world_size},
            "changes_training",
            how=how.format(stage=stage),
        )


def _over_all(plan: LaunchPlan) -> Remedy:
    degree = plan.shard_degree * plan.replicate_degree
    return Remedy(
        "sharding",
        f"shards over {degree} ranks, not {plan.shard_degree}",
        {"shard_degree": degree, "replicate_degree": 1},
        "equivalent",
        how="fsdp_sharding_strategy: FULL_SHARD (FSDP1), dp_replicate_size: 1 (parallelism_config)",
    )

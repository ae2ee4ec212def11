"""context_parallel: cut each sequence over ranks, and accumulate as many more micro steps.

Saves      activations and logits in proportion to the ranks that share a sequence
Costs      keys and values go around the ranks in every layer; fewer sequences are trained at a time
Safety     equivalent by the code: the same global batch, attention summed in another order. Sequences are padded
           to a multiple of twice the degree, and no mask reaches attention, so padding must be on the right
Written as parallelism_config_cp_size and parallelism_config_dp_shard_size in accelerate's file
Only with one sequence a micro batch: fewer sequences save as much and send nothing. Only under FSDP2 with SDPA and a Trainer (accelerate/utils/dataclasses.py TorchContextParallelConfig, 1.15.0)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.objective import LANGUAGE_MODEL
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.remedy import Remedy
from preflight.versions.accelerate import HAS_PARALLELISM_CONFIG
from preflight.versions.torch import SHARDS_CONTEXT

DEGREES = (2, 4, 8)
HAS_CONTEXT_PARALLEL = (HAS_PARALLELISM_CONFIG, SHARDS_CONTEXT)


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Let two, four and eight ranks of a node share each sequence."""
    if plan.objective not in LANGUAGE_MODEL:
        return  # their losses look at whole sequences
    if plan.engine != "fsdp2" or plan.attention != "sdpa" or plan.trainer not in HF_TRAINERS:
        return
    is_new = all(boundary.holds_in(plan.versions) for boundary in HAS_CONTEXT_PARALLEL)
    if plan.micro_batch_size != 1:
        return  # a smaller micro batch saves as much, and sends nothing around
    alone = plan.data_parallel_degree == plan.world_size and plan.replicate_degree == 1
    if not is_new or not alone or plan.sequence_kind == "packed" or plan.seq_len is None:
        return
    # Accumulation that begins here keeps gradients that are not sharded, as in micro_batch.
    raises = plan.gradient_accumulation_steps == 1 and not plan.sync_each_batch
    for degree in DEGREES:
        if plan.ranks_per_node % degree or plan.seq_len % (2 * degree):
            continue
        accumulation = plan.gradient_accumulation_steps * degree
        yield Remedy(
            "context_parallel",
            f"{degree} ranks share a sequence, accumulation"
            f" {plan.gradient_accumulation_steps} -> {accumulation}",
            {"context_parallel_degree": degree, "gradient_accumulation_steps": accumulation},
            "equivalent",
            may_raise_peak=raises,
            notes=(f"pad sequences on the right, to a multiple of {2 * degree}",),
            how=f"parallelism_config_cp_size: {degree}, parallelism_config_dp_shard_size:"
            f" {plan.world_size // degree}",
        )
        raises = False

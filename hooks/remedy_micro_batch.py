"""micro_batch: fewer sequences at a time, more accumulation steps, the same global batch exactly.

Saves      activations and logits in proportion; under FSDP accumulation keeps unsharded gradients
           instead, which the estimate counts
Costs      smaller matrix products and, under FSDP or ZeRO-3, one more round of gathering per step
Safety     equivalent with Trainer and TRL from transformers 4.46 on: the loss is divided by the
           tokens of the whole batch (num_items_in_batch), only the order of the sum changes.
           Elsewhere accumulation averages averages, so the change is only suggested. DPO, IPO, SimPO and
           reward models average rows, and stay the same; ORPO, CPO and KTO do not
Written as per_device_train_batch_size and gradient_accumulation_steps, and every copy of them in a
           DeepSpeed config
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.row_averages import averages_rows
from preflight.formulas.objective import LANGUAGE_MODEL
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.plan_choices import HF_TRAINERS
from preflight.remedy import Remedy
from preflight.versions.transformers import WEIGHS_TOKENS

LARGEST_TRIED = 4096
"""A micro batch above it is a slip of the pen; every number below it is tried as a divisor."""


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Divide the micro batch by each of its divisors and multiply the accumulation."""
    micro = plan.micro_batch_size
    if micro is None or micro == 1 or plan.pipeline is not None or plan.optimizer_in_backward:
        return  # in a pipeline micro batches are the schedule's; no gradient outlives the backward that steps with it
    weighted = plan.trainer in HF_TRAINERS and WEIGHS_TOKENS.holds_in(plan.versions)
    if plan.objective not in LANGUAGE_MODEL:
        weighted = averages_rows(plan)
    # The first micro step beside another keeps gradients that are not sharded; more of them add nothing.
    keeps_gradients = plan.is_fsdp and not plan.sync_each_batch
    first = plan.gradient_accumulation_steps == 1
    for smaller in range(min(micro - 1, LARGEST_TRIED), 0, -1):
        if micro % smaller:
            continue
        times = micro // smaller
        accumulation = plan.gradient_accumulation_steps * times
        edits = {"micro_batch_size": smaller, "gradient_accumulation_steps": accumulation}
        if launcher_of(plan).evaluates_micro_batch:
            edits["eval_micro_batch_size"] = smaller
        steps = plan.generation.steps_per_generation if plan.generation else None
        if steps is not None:  # as many completions a rollout as before
            edits["generation.steps_per_generation"] = steps * times
        yield Remedy(
            "micro_batch",
            f"micro batch {micro} -> {smaller}, accumulation"
            f" {plan.gradient_accumulation_steps} -> {accumulation}",
            edits,
            "equivalent" if weighted else "changes_training",
            may_raise_peak=keeps_gradients and first,
            # ZeRO-2 with an offloaded optimizer keeps a shard of earlier gradients there (memory_host.py)
            may_raise_host=first,
        )
        first = False

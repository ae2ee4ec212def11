"""PF437 to PF444: what TRL's trainers refuse, or do beside what was asked.

PF437  GRPO: completions that do not fill whole groups
PF438  a reference model beside the one that trains (from the reader too: methods estimated as SFT)
PF439  a reference model to keep in step that does not exist
PF441  packing without max_length
PF442  liger's fused cross entropy where TRL fuses the head itself
PF443  label smoothing, which needs the full logits and a forward of its own
PF444  selective checkpointing without, or with the wrong kind of, checkpointing
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.trainer_arguments import argument, checks_groups, method_of, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.versions.trl import CHECKS_GROUPS, CHECKS_REFERENCE_SYNC, FUSES_HEAD

HAS_REFERENCE = ("dpo", "kto", "grpo", "rloo")


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Check what TRL's trainer of this launch takes."""
    grouped, method = checks_groups(plan), method_of(plan)
    if grouped is not None and CHECKS_GROUPS.holds_in(plan.versions):
        yield from _groups(plan, grouped)
    if method in HAS_REFERENCE:
        yield from _reference(plan, method)
    if method == "sft":
        yield from _sft(plan)


def _groups(plan: LaunchPlan, method: str) -> Iterable[Finding]:
    per_prompt = argument(plan, "num_generations")
    batch, steps = argument(plan, "generation_batch_size"), argument(plan, "steps_per_generation")
    size, micro = per_prompt.value, plan.micro_batch_size
    if not isinstance(size, int) or micro is None:
        return
    where = per_prompt.where or batch.where or where_of(plan, "micro_batch_size", "world_size")
    if size < 2:
        message = f"{method.upper()} compares completions of one prompt, and there is {size}"
        yield found("PF437", message, where, "--num_generations 2 or more")
        return
    per_step = micro * plan.world_size
    if batch.value is not None and steps.value is not None:
        message = "generation_batch_size and steps_per_generation exclude each other"
        yield found("PF437", message, batch.where, "remove one of them")
        return
    if batch.value is not None and batch.value % per_step:
        message = f"generation_batch_size {batch.value} is no multiple of {micro} x {plan.world_size} ranks"
        yield found("PF437", message, batch.where, f"a multiple of {per_step}")
        return
    total = batch.value or per_step * (steps.value or plan.gradient_accumulation_steps)
    if total % size:
        yield found(
            "PF437",
            f"{total} completions a generation (micro batch {micro} x {plan.world_size} ranks x steps)"
            f" do not fill groups of {size}",
            where,
            f"num_generations that divides {total}, or a micro batch that makes it a multiple of {size}",
        )


def _reference(plan: LaunchPlan, method: str) -> Iterable[Finding]:
    beta, sync = argument(plan, "beta"), argument(plan, "sync_ref_model")
    precomputed = argument(plan, "precompute_ref_log_probs")
    is_without_beta = method in ("grpo", "rloo") and beta.value in (0, 0.0)
    is_needed = plan.adapter is None and not is_without_beta and not precomputed.is_on
    if sync.is_on and not is_needed and CHECKS_REFERENCE_SYNC.holds_in(plan.versions):
        why = (
            "an adapter's base is its reference" if plan.adapter else "nothing is compared with one"
        )
        yield found(
            "PF439",
            f"sync_ref_model keeps a reference model in step, and there is none: {why}",
            sync.where,
            "--sync_ref_model false",
        )
    if is_needed and beta.value is not None and unpriced_objective(plan):
        yield found(
            "PF438",
            f"{method.upper()} loads a second copy of the model as reference: the estimate does not count it",
            where_of(plan, "model"),
            "an adapter needs no copy (--use_peft true)"
            + ("; neither does --beta 0" if method in ("grpo", "rloo") else ""),
        )


def _sft(plan: LaunchPlan) -> Iterable[Finding]:
    packing = argument(plan, "packing")
    if packing.is_on and plan.seq_len is None and plan.script_facts.is_of_library:
        message = "packing fills rows of max_length tokens, and max_length is empty"
        yield found("PF441", message, packing.where, "max_length: 4096, or the longest that fits")
    if not FUSES_HEAD.holds_in(plan.versions):
        return
    liger, config = argument(plan, "use_liger_kernel"), argument(plan, "liger_kernel_config")
    fuses = isinstance(config.value, dict) and config.value.get("fused_linear_cross_entropy")
    if liger.is_on and fuses:
        yield found(
            "PF442",
            "liger's fused_linear_cross_entropy replaces the forward that TRL fuses itself",
            config.where,
            "remove fused_linear_cross_entropy: TRL computes no full logits anyway",
        )
    smoothing, loss = argument(plan, "label_smoothing_factor"), argument(plan, "loss_type")
    if smoothing.value and loss.value in (None, "nll"):
        yield found(
            "PF443",
            "label smoothing needs the full logits: TRL runs a second forward without its fused head for them",
            smoothing.where,
            "--label_smoothing_factor 0",
        )
    kwargs = argument(plan, "gradient_checkpointing_kwargs")
    options = kwargs.value if isinstance(kwargs.value, dict) else {}
    if not options.get("selective"):
        return
    if plan.activation_checkpointing == "none":
        message = "selective checkpointing needs gradient_checkpointing"
        yield found("PF444", message, kwargs.where, "--gradient_checkpointing true")
    elif options.get("use_reentrant"):
        message = "selective checkpointing cannot be reentrant"
        yield found("PF444", message, kwargs.where, "remove use_reentrant")
    elif plan.adapter is not None and plan.zero_stage == 3:
        message = "an adapter under ZeRO-3 is checkpointed the reentrant way, and selective checkpointing is not"
        yield found("PF444", message, kwargs.where, "remove selective")

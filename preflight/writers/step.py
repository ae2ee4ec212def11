"""What one step computes and keeps, written back: attention, loss, the evaluation batch, offloaded activations."""

from __future__ import annotations

from dataclasses import replace

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.versions.transformers import OFFLOADS_ACTIVATIONS, SAYS_ACTIVATION_CHECKPOINTING
from preflight.writers.draft import LaunchDraft
from preflight.writers.engine import set_launcher_option
from preflight.writers.trainer_edits import (
    is_given,
    nested_target,
    set_argument,
    sets_trainer_arguments,
    takes_model_flags,
)

CHUNKED_LOSS_TYPE = "chunked_nll"
"""TRL's name for the loss in pieces (trl/trainer/sft_config.py, 1.7 to 1.14)."""


def write_attention(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Name another attention, where it is named now or in TRL's ModelConfig."""
    kwargs = nested_target(draft, "model_init_kwargs")
    if kwargs is not None and kwargs.has("attn_implementation"):
        kwargs.set(draft, "attn_implementation", after.attention)
        return
    may_add = takes_model_flags(draft, before)
    name = "attn_implementation"
    set_argument(draft, before, name, after.attention, (), "attention", may_add)


def write_loss(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Take the loss in pieces by the trainer's own switch."""
    if before.trainer not in HF_TRAINERS or before.loss not in (None, "full_logits"):
        raise CannotEdit("only a trainer's loss over whole logits is replaced")
    if after.loss == "fused_linear":
        set_argument(draft, before, "use_liger_kernel", True)
    elif after.loss == "chunked_linear" and before.trainer == "trl":
        set_argument(draft, before, "loss_type", CHUNKED_LOSS_TYPE)
    else:
        raise CannotEdit(f"the trainer has no switch for {after.loss}")


GENERATION_ARGUMENTS = {
    "sleep": "vllm_enable_sleep_mode",
    "memory_share": "vllm_gpu_memory_utilization",
    "steps_per_generation": "steps_per_generation",
}
"""Field of the plan's `generation` that a remedy changes -> the argument of TRL's online trainers."""


def write_generation(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Change what an inference engine takes, or how many micro batches one rollout fills."""
    old, new = before.generation, after.generation
    names = {n: a for n, a in GENERATION_ARGUMENTS.items() if getattr(old, n) != getattr(new, n)}
    if old is None or new is None or replace(old, **{n: getattr(new, n) for n in names}) != new:
        raise CannotEdit("only an engine's sleep and share, and steps of a generation, are written")
    for name, argument in names.items():
        set_argument(draft, before, argument, getattr(new, name))


def write_evaluation_batch(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Change the rows of an evaluation step."""
    if after.eval_micro_batch_size is None:
        raise CannotEdit("eval_micro_batch_size cannot be unknown")
    name, value = "per_device_eval_batch_size", after.eval_micro_batch_size
    set_argument(draft, before, name, value, plan_field="eval_micro_batch_size")


def write_activation_offload(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Keep what checkpointing saves in host memory."""
    if (before.offload_activations, after.offload_activations) != ("none", "cpu"):
        raise CannotEdit("only none -> cpu is written")
    if before.engine_facts.fsdp_checkpoints and before.engine == "fsdp2":
        key = "fsdp_activation_checkpointing_offload"
        set_launcher_option(draft, "fsdp_config", key, True)
    elif before.trainer == "trl":
        set_argument(draft, before, "activation_offloading", True, (), "offload_activations")
    elif before.trainer == "transformers" and sets_trainer_arguments(draft, before):
        _write_kwargs(draft, before)
    else:
        raise CannotEdit("the launch has no switch for offloaded activations")


def _write_kwargs(draft: LaunchDraft, before: LaunchPlan) -> None:
    if not OFFLOADS_ACTIVATIONS.holds_in(before.versions):
        raise CannotEdit("this transformers does not offload activations")
    names = ("activation_checkpointing_kwargs", "gradient_checkpointing_kwargs")
    for name in names:
        target = nested_target(draft, name)
        if target is not None:
            target.set(draft, "offload", True)
            return
    if is_given(draft, names):
        raise CannotEdit("the checkpointing kwargs are no JSON")
    name = names[0 if before.surely(SAYS_ACTIVATION_CHECKPOINTING) else 1]
    # Kwargs that do not name the kind would bring the reentrant one.
    set_argument(draft, before, name, {"use_reentrant": False, "offload": True})


def write_no_mixed_precision(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Turn mixed precision off for weights that are bf16 themselves, in the trainer and wherever the launcher says it."""
    if (before.mixed_precision, after.mixed_precision) != ("bf16", "no"):
        raise CannotEdit("only bf16 -> no is written")
    if before.trainer not in HF_TRAINERS or before.zero_stage is not None:
        raise CannotEdit("a loop of one's own makes its Accelerator itself")
    set_argument(draft, before, "bf16", False)
    flags = draft.launcher_flags("mixed_precision")
    path = draft.role("accelerate")
    for flag in flags:
        draft.write_flag(flag, "no")
    if flags or path is None or draft.document(path).get(("mixed_precision",)) is None:
        return
    if draft.part.is_default_config:
        draft.add_launcher_flag("mixed_precision", "no")
    else:
        draft.edit(path, ("mixed_precision",), "no")

"""Which kind of torch.utils.checkpoint recomputes a layer: the rule of trainer and version where nobody says."""

from __future__ import annotations

from preflight.formulas.user_loop import HUGGING_FACE, has_own_model_code
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.values import replace
from preflight.versions import torch, transformers, trl

IGNORES_CHECKPOINTING = {
    "starcoder2": transformers.STARCODER2_IGNORES_CHECKPOINTING,
    "gpt_bigcode": transformers.GPT_BIGCODE_IGNORES_CHECKPOINTING,
}
"""Types whose class says that it supports checkpointing, and in some releases keeps every activation all the same."""


def as_its_class_runs(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return a plan without checkpointing where the model's class ignores it; FSDP's own switch wraps layers itself, and so do
    scripts."""
    ignores = IGNORES_CHECKPOINTING.get(model.model_type)
    if ignores is None or not ignores.holds_in(plan.versions):
        return plan
    if (
        plan.activation_checkpointing != "full"
        or has_own_model_code(plan)
        or is_launchers_own(plan)
        or plan.script_facts.wrapped_checkpoints is not None
    ):
        return plan
    return replace(plan, activation_checkpointing="none")


def is_reentrant(plan: LaunchPlan) -> bool:
    """Tell whether a checkpointed layer runs without a graph first and backward through one of its own."""
    if plan.activation_checkpointing != "full":
        return False
    if plan.checkpointing_reentrant is not None:
        return plan.checkpointing_reentrant
    if plan.script_facts.wrapped_checkpoints is not None:
        return not torch.WRAPPED_CHECKPOINTS_ARE_NOT_REENTRANT.holds_in(plan.versions)
    if plan.trainer not in HUGGING_FACE:
        return False
    if plan.trainer == "trl" and trl.IS_NOT_REENTRANT.holds_in(plan.versions):
        return False
    return not transformers.IS_NOT_REENTRANT.holds_in(plan.versions)


def is_launchers_own(plan: LaunchPlan) -> bool:
    """Tell whether FSDP's switch checkpoints, with a module around each layer, and not the trainer's."""
    is_checkpointed = plan.activation_checkpointing != "none"
    return plan.is_fsdp and is_checkpointed and plan.engine_facts.fsdp_checkpoints


def recomputes_wrapped_layers(plan: LaunchPlan) -> bool:
    """Tell whether what a reentrant checkpoint runs is FSDP's wrapper: it is there in the first, graphless run too."""
    is_inside = (
        plan.script_facts.wrapped_checkpoints is not None
        or transformers.LAYERS_CHECKPOINT_THEMSELVES.holds_in(plan.versions)
    )
    return is_reentrant(plan) and not is_inside

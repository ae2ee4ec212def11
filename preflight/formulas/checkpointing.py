"""Which kind of torch.utils.checkpoint recomputes a layer: the rule of trainer and version where nobody says."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.versions import transformers, trl


def is_reentrant(plan: LaunchPlan) -> bool:
    """Tell whether a checkpointed layer runs without a graph first and backward through one of its own."""
    if plan.activation_checkpointing != "full":
        return False
    if plan.checkpointing_reentrant is not None:
        return plan.checkpointing_reentrant
    if plan.trainer not in (*HF_TRAINERS, "plain_loop"):
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
    is_inside = transformers.LAYERS_CHECKPOINT_THEMSELVES.holds_in(plan.versions)
    return is_reentrant(plan) and not is_inside

"""Which kind of torch.utils.checkpoint recomputes a layer: the rule of trainer and version where nobody says."""

from __future__ import annotations

from preflight.formulas.precision import version_of
from preflight.launch import LaunchPlan

TRANSFORMERS_NON_REENTRANT_SINCE = (5, 0)
"""`gradient_checkpointing_enable` asks for the reentrant kind before (modeling_utils.py:2539, 4.48.1; :3158, 5.24.0)."""
TRL_NON_REENTRANT_SINCE = (0, 27)
"""TRL asks for the other kind itself from here on (trl/trainer/sft_config.py, 0.27.0; sft_trainer.py:1081, 1.16)."""

LAYER_CHECKPOINTS_ITSELF_SINCE = (4, 53)
"""Before, a model called `checkpoint(layer.__call__)`, FSDP's wrapper included; since, the layer's own
`__call__` checkpoints, inside of it (transformers/modeling_layers.py; Llama, Mistral and Qwen2 since 4.52)."""


def is_reentrant(plan: LaunchPlan) -> bool:
    """Tell whether a checkpointed layer runs without a graph first and backward through one of its own."""
    if plan.activation_checkpointing != "full":
        return False
    if plan.checkpointing_reentrant is not None:
        return plan.checkpointing_reentrant
    if plan.trainer not in ("transformers", "trl", "plain_loop"):
        return False
    if plan.trainer == "trl" and version_of(plan, "trl") >= TRL_NON_REENTRANT_SINCE:
        return False
    return version_of(plan, "transformers") < TRANSFORMERS_NON_REENTRANT_SINCE


def is_launchers_own(plan: LaunchPlan) -> bool:
    """Tell whether FSDP's switch checkpoints, with a module around each layer, and not the trainer's."""
    if not plan.is_fsdp or plan.activation_checkpointing == "none":
        return False
    if getattr(plan.source, "facts", {}).get("fsdp_activation_checkpointing"):
        return True
    places = getattr(plan.source, "places", {}).get("activation_checkpointing", ())
    return any("fsdp_activation_checkpointing" in place.key.lower() for place in places)


def recomputes_wrapped_layers(plan: LaunchPlan) -> bool:
    """Tell whether what a reentrant checkpoint runs is FSDP's wrapper: it is there in the first, graphless run too."""
    since = LAYER_CHECKPOINTS_ITSELF_SINCE
    return is_reentrant(plan) and version_of(plan, "transformers") < since

"""activation_checkpointing: keep each layer's input only, and compute the rest again in backward.

Saves      the activations inside every decoder layer but one
Costs      one more forward: a third of the step's FLOPs (Chen et al. 2016, section 4.1)
Safety     same: the recomputed values are the ones that were dropped, random state included
Written as the trainer's own switch (`--activation_checkpointing`, `--gradient_checkpointing` before
           transformers 5.24), because it restores the random state; `fsdp_activation_checkpointing`
           only for scripts without a trainer, and never under FSDP2 with any dropout, where the
           recomputed masks would differ (accelerate/utils/fsdp_utils.py:720), nor with an adapter,
           which PEFT would save empty (PF223). One switch, not two: Trainer refuses both
           (transformers/trainer.py:878)
Not with litgpt on one device: only its strategies for several checkpoint (parallelize_fn in
           litgpt/finetune/lora.py, FSDPStrategy in full.py, 0.5.13), and no option of it does
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.heads import trains_value_model
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Turn activation checkpointing on where it is off or partial, or say it where a release may leave it off."""
    if trains_value_model(plan):
        return  # its own loop turns none on
    if plan.activation_checkpointing == "full" and not plan.is_open("activation_checkpointing"):
        return
    if plan.trainer == "litgpt" and plan.engine == "single":
        return
    yield Remedy(
        "activation_checkpointing",
        "turn activation checkpointing on",
        {"activation_checkpointing": "full"},
        "same",
    )

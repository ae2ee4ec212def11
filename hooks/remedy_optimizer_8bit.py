"""optimizer_8bit: keep AdamW's states in 8 bits (bitsandbytes, Dettmers et al. 2022).

Saves      6 bytes of 8 per parameter with fp32 states, 2 of 4 with bf16 states
Costs      nothing measurable in a step
Safety     changes_training: quantized states are another optimizer
Written as --optim adamw_bnb_8bit
Not under FSDP2 (bitsandbytes' optimizers know no DTensor), nor with optimizer offload, where DeepSpeed
           puts its own CPU Adam in its place (accelerate/utils/deepspeed.py:29)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.lever_rules import PLAIN_ADAMW
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Replace AdamW by its 8-bit form where that can run."""
    if plan.adapter is not None or plan.engine == "fsdp2" or plan.optimizer not in PLAIN_ADAMW:
        return
    if plan.offload_optimizer != "none" or plan.offload_params != "none":
        return
    yield Remedy(
        "optimizer_8bit",
        "8-bit AdamW",
        {"optimizer": "adamw_bnb_8bit"},
        "changes_training",
        how="--optim adamw_bnb_8bit (needs bitsandbytes)",
    )

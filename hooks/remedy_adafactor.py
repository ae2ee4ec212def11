"""adafactor: keep one row and one column of second moments for each matrix (Shazeer and Stern 2018).

Saves      nearly all optimizer states: 8 bytes a parameter of AdamW with fp32 states, 4 with bf16 states
Costs      little of a step; an fp32 update of the largest tensor in passing
Safety     changes_training: another optimizer, without first moments. T5 was trained with it; a learning rate that
           was tuned for AdamW has to be looked at again
Written as --optim adafactor
Not under FSDP1 and ZeRO, which flatten tensors, so that nothing is left to factor, nor under FSDP2, whose
           sharded tensors have no means of their rows
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.lever_rules import PLAIN_ADAMW
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Replace AdamW where tensors are whole."""
    if plan.engine not in ("single", "ddp") or plan.optimizer not in PLAIN_ADAMW:
        return
    if plan.adapter is None and plan.trainer in HF_TRAINERS:
        yield Remedy(
            "adafactor",
            "Adafactor in place of AdamW",
            {"optimizer": "adafactor"},
            "changes_training",
            how="--optim adafactor",
        )

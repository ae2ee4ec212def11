"""pure_bf16: train bf16 weights as they are, without fp32 copies.

Saves      half of all model states: 16 bytes a parameter become 8
Costs      nothing in a step
Safety     changes_training: an update smaller than 1/256 of its weight is rounded away, which at usual learning
           rates is most of them, late in training above all
Written as --bf16 false --dtype bfloat16 (TRL), with mixed_precision: 'no' in the launcher's file; dtype=torch.bfloat16
           in from_pretrained elsewhere
Not under DeepSpeed, whose masters are optimizer_states_16bit's
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.lever_rules import PLAIN_ADAMW, stored
from preflight.formulas.precision import precision_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Take fp32 copies away where bf16 multiplies anyway."""
    if plan.zero_stage is not None or plan.adapter is not None or plan.mixed_precision != "bf16":
        return
    if plan.trainer not in HF_TRAINERS or launcher_of(plan).packs_base:
        return  # frameworks have words of their own for it
    if plan.optimizer not in PLAIN_ADAMW:
        return
    if stored(precision_of(plan, model))[0] == "fp32" and plan.master_dtype is None:
        yield Remedy(
            "pure_bf16",
            "bf16 weights, gradients and states",
            {"mixed_precision": "no", "load_dtype": "bf16"},
            "changes_training",
            how="--bf16 false --dtype bfloat16, and mixed_precision: 'no' in the launcher's file",
        )

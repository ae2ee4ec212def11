"""Which losses are the same mean over rows, however these are cut into micro batches."""

from __future__ import annotations

from preflight.formulas.objective import takes_cross_entropy
from preflight.launch import LaunchPlan

AVERAGES_ROWS = ("dpo", "ipo", "simpo", "reward")
"""Objectives whose loss is the mean over rows of the micro batch, as long as its parts are: TRL divides it by the
accumulation steps. ORPO and CPO average tokens, KTO compares with the other rows, AOT sorts them."""
MIXES_ROWS = frozenset({"aot", "aot_unpaired", "sft"})
"""Losses of TRL's DPO that look at the whole micro batch (dpo_trainer.py:1331-1380, 1.16.0)."""
SUMS_OF_A_GENERATION = frozenset({"dapo", "grpo", "dr_grpo", "cispo"})
"""Losses of GRPO that divide by rows, or by the tokens of all completions of a generation (grpo_trainer.py:3160-3190,
1.16.0); bnpo divides by a micro batch's tokens."""


def averages_rows(plan: LaunchPlan) -> bool:
    """Tell whether a step's loss is the same mean over rows, however they are cut into micro batches."""
    if plan.objective == "simpo" and takes_cross_entropy(plan):
        return False  # of the tokens of a micro batch
    if plan.objective == "grpo":
        named = plan.trainer_facts.value("loss_type", "dapo")
        return plan.trainer == "trl" and named in SUMS_OF_A_GENERATION
    losses = plan.trainer_facts.value("loss_type") or ()
    named = {losses} if isinstance(losses, str) else set(losses)
    return plan.trainer == "trl" and plan.objective in AVERAGES_ROWS and not named & MIXES_ROWS

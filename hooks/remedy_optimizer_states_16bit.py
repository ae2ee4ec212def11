"""optimizer_states_16bit: keep ZeRO's master weights and optimizer states in bf16.

Saves      6 of 12 bytes a parameter over the shard group
Costs      nothing in a step
Safety     changes_training: updates are rounded to bf16, as in pure_bf16
Written as bf16.bf16_master_weights_and_grads and bf16.bf16_optimizer_states in the DeepSpeed JSON
Not with offloaded states, where DeepSpeed wants a CPUAdam that was built for it
           (deepspeed/runtime/base_optimizer.py:517, 0.19.8)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.lever_rules import PLAIN_ADAMW
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy
from preflight.versions.deepspeed import KEEPS_STATES_IN_BF16


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Halve what ZeRO 1 to 3 keeps for the optimizer."""
    if not plan.zero_stage or plan.mixed_precision != "bf16" or plan.master_dtype is not None:
        return
    if plan.offload_optimizer != "none" or plan.optimizer not in PLAIN_ADAMW:
        return
    if KEEPS_STATES_IN_BF16.holds_in(plan.versions):
        yield Remedy(
            "optimizer_states_16bit",
            "bf16 master weights and optimizer states",
            {"master_dtype": "bf16", "optimizer_state_dtype": "bf16"},
            "changes_training",
            how='"bf16": {"bf16_master_weights_and_grads": true, "bf16_optimizer_states": true} in the DeepSpeed JSON',
        )

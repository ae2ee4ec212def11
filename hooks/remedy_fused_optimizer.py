"""fused_optimizer: step AdamW in one kernel, without lists of temporaries.

Saves      a copy of all local parameters during the step, in the states' dtype
Costs      nothing: the step is faster
Safety     equivalent: the same formula, rounded at other places
Written as --optim adamw_torch_fused, and optimizer.fused: True (torchtune)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy
from preflight.versions.torch import FUSES_SHARDED_ADAMW


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Replace torch's AdamW by its fused kernel."""
    if plan.optimizer != "adamw_torch" or not FUSES_SHARDED_ADAMW.holds_in(plan.versions):
        return
    if plan.offload_params != "none" or plan.offload_optimizer != "none":
        return
    yield Remedy(
        "fused_optimizer",
        "step AdamW in one fused kernel",
        {"optimizer": "adamw_torch_fused", "optimizer_kernel": None},
        "equivalent",
        how="--optim adamw_torch_fused",
    )

"""wrap_policy: make every decoder layer an FSDP unit, where the whole model is one or units are cut by size.

Saves      all gathered parameters but those of the layers at hand: without a wrap policy the whole model is
           one unit, which is gathered before the forward and stays to the end of backward
Costs      nothing: the gathers of single layers hide behind the work of others
Safety     equivalent: the same gradients are summed over the ranks, in other groups
Written as fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP; the classes are the model's own _no_split_modules
           where nobody names them (accelerate/utils/dataclasses.py set_auto_wrap_policy, 1.15.0)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Wrap decoder layers where FSDP wraps nothing, or by size."""
    if not plan.is_fsdp or plan.wrap_policy not in ("none", "size") or not model.layers:
        return
    yield Remedy(
        "wrap_policy",
        "make each decoder layer an FSDP unit",
        {"wrap_policy": "transformer", "wrap_min_num_params": None},
        "equivalent",
        may_raise_peak=plan.wrap_policy == "size",
        how="fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
    )

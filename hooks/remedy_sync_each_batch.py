"""sync_each_batch: reduce gradients in every micro step, instead of keeping whole ones until the last.

Saves      under FSDP a whole, unsharded gradient of everything that trains, where steps accumulate: 2 bytes a
           parameter on every rank
Costs      one more reduce-scatter of all gradients in each micro step but the last
Safety     equivalent: the same sum; over ranks first, then over micro steps, and kept in the shards' dtype
Written as accelerator_config {"gradient_accumulation_kwargs": {"sync_each_batch": true}}
Not with FSDP1 and offloaded parameters, where torch would lose gradients without a word
           (torch/distributed/fsdp/fully_sharded_data_parallel.py), nor with releases of transformers that
           do not listen to it: 4.46 to 5.1
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.lever_rules import syncs_when_asked
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Reduce in each micro step under FSDP; where no steps accumulate yet, a smaller micro batch may bring them."""
    if not plan.is_fsdp or plan.sync_each_batch or not syncs_when_asked(plan):
        return
    if plan.engine == "fsdp1" and plan.offload_params != "none":
        return
    yield Remedy(
        "sync_each_batch",
        "reduce gradients in every micro step",
        {"sync_each_batch": True},
        "equivalent",
        may_raise_peak=plan.engine == "fsdp1",  # it rules offloading out
        how='--accelerator_config \'{"gradient_accumulation_kwargs": {"sync_each_batch": true}}\'',
    )

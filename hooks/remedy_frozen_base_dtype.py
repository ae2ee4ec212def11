"""frozen_base_dtype: load a frozen base in the 16 bits that its checkpoint has, not in fp32.

Saves      2 bytes of 4 for every weight of the base
Costs      nothing
Safety     equivalent where the checkpoint is bf16 and products run in bf16: they see the same numbers, and only
           norms, which would be computed from fp32 copies, are rounded elsewhere. Changes training where
           the checkpoint is fp32: the base is then rounded
Written as --dtype bfloat16 (TRL)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.precision import load_dtype
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.remedy import Remedy


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Load the base of an adapter in bf16 where it is fp32 and products are bf16 anyway."""
    if plan.adapter is None or plan.base_quantization is not None or plan.zero_stage is not None:
        return  # DeepSpeed casts the whole model to the compute dtype
    if launcher_of(plan).loads_as_checkpoint:
        return  # the framework loads what the checkpoint has
    if plan.mixed_precision != "bf16" or load_dtype(plan, model) != "fp32":
        return
    yield Remedy(
        "frozen_base_dtype",
        "load the frozen base in bf16",
        {"load_dtype": "bf16"},
        "equivalent" if model.config_dtype == "bf16" else "changes_training",
        how="--dtype bfloat16",
    )

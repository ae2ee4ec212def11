"""What DoRA takes beside LoRA: both results of a projection, and weights as large as its own in passing.

The norm of a projection's adapted weight is taken anew in every forward: the adapter is multiplied out by way of an
identity matrix, and added to the weight (peft/tuners/lora/dora.py DoraLinearLayer.forward, 0.21.2).
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.adapters.adapters import adapter_targets, is_target
from preflight.formulas.precision import Precision, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit, ParameterTensor

NUM_COPIES = 4
"""Of a weight at once, in the dtype of the adapter's input: the weight cast, the product, it scaled, and their sum."""


def dora_bytes(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision) -> int:
    """Return what backward needs per token: the projection's result and the adapter's, for the magnitude.

    Under autocast a packed layer returns fp32, as its magnitudes are, and what follows is as wide.
    """
    c = precision.bytes_of("compute")
    is_wide, casts = precision.bytes_of("trainable") > c, uses_autocast(plan)
    each = c + (4 if is_wide and not casts else c)
    if is_wide and casts and plan.base_quantization is not None:
        each += 4
    return each * sum(t.shape[0] for t in _targets(plan, model, unit))


def dora_backward_bytes(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> int:
    """Return the most per token that gradients are wider in backward: fp32 magnitudes make fp32 of both results."""
    if not (
        uses_autocast(plan) and precision.bytes_of("trainable") > precision.bytes_of("compute")
    ):
        return 0
    return 2 * 4 * max((t.shape[0] for t in _targets(plan, model, unit)), default=0)


def dora_passing_bytes(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, tokens: int
) -> int:
    """Return the most that one projection takes in passing: for the norm of its weight, or after that for two
    more results in the dtype of the adapter."""
    wide = precision.bytes_of("trainable")
    narrow = precision.bytes_of("compute")
    casts = uses_autocast(plan) and wide != narrow
    highest = 0
    for tensor in _targets(plan, model, unit):
        rows, columns = tensor.shape
        copies = NUM_COPIES - (1 if wide == narrow and plan.base_quantization is None else 0)
        identity, weights = wide * columns**2, wide * copies * rows * columns
        if casts:
            identity, weights = (identity + narrow * columns**2, weights + narrow * rows * columns)
        highest = max(highest, identity + weights, 2 * wide * rows * tokens)
    return highest


def _targets(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> Iterator[ParameterTensor]:
    if plan.adapter is None or plan.adapter.kind != "dora":
        return
    targets = adapter_targets(plan.adapter, model)
    yield from (tensor for tensor in unit.tensors if is_target(tensor, targets))

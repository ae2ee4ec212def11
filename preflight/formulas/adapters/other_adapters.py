"""What adapters that are no two matrices take in a plan's layers, and where nobody knows it."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.errors import Problem
from preflight.formulas.adapters.adapted_experts import adapted_stacks
from preflight.formulas.adapters.adapter_kinds import (
    BRANCHES,
    Mode,
    buffer_bytes,
    is_priced,
    kept_once,
    passing_bytes,
)
from preflight.formulas.adapters.adapters import adapter_targets, is_target, outer_targets
from preflight.formulas.adapters.frozen_parts import SEEING
from preflight.formulas.precision import Precision, precision_of, uses_autocast
from preflight.formulas.trainer_arguments import where_of
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit, ParameterTensor
from preflight.unpriced_names import NOT_LORA


def mode_of_adapter(plan: LaunchPlan, precision: Precision) -> Mode:
    """Return the dtypes that an adapter and its layer run in, and whether autocast is on."""
    is_cast = plan.is_fsdp or plan.zero_stage is not None
    base = precision.compute if is_cast else precision.frozen
    own = precision.compute if plan.engine == "fsdp2" else precision.trainable
    return base, own, uses_autocast(plan)


def _on(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit
) -> Iterator[tuple[ParameterTensor, int, int]]:
    """Yield the linear weights of a unit that such an adapter is on, with their outputs and inputs."""
    adapter = plan.adapter
    if adapter is None or adapter.kind in BRANCHES:
        return
    targets = adapter_targets(adapter, model)
    is_turned = unit.role == "layer" and model.facts.get("conv1d")
    for tensor in unit.tensors:
        if is_target(tensor, targets):
            first, second = tensor.shape
            yield (tensor, second, first) if is_turned else (tensor, first, second)


def kept_of_weights(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision
) -> int:
    """Return the bytes of a layer's merged weights, and of what else is made of weights and kept."""
    mode = mode_of_adapter(plan, precision)
    return sum(
        kept_once(plan.adapter, tensor.module, outputs, inputs, mode)
        for tensor, outputs, inputs in _on(plan, model, unit)
        if plan.adapter is not None
    )


def passing_of_layer(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, tokens: int
) -> tuple[int, int]:
    """Return the most that one projection's forward and backward take in passing, beyond what LoRA's do."""
    mode = mode_of_adapter(plan, precision)
    pairs = [
        passing_bytes(plan.adapter, tensor.module, outputs, inputs, tokens, mode)
        for tensor, outputs, inputs in _on(plan, model, unit)
        if plan.adapter is not None
    ]
    return max((f for f, _ in pairs), default=0), max((b for _, b in pairs), default=0)


def bytes_that_do_not_train(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes of an adapter's tensors that do not train: of each layer, and those of all together once."""
    own, shared = 0, 0
    for unit in model.units:
        for tensor, outputs, inputs in _on(plan, model, unit):
            assert plan.adapter is not None
            each, of_all = buffer_bytes(plan.adapter, tensor.module, outputs, inputs)
            own, shared = own + unit.count * each, max(shared, of_all)
    return own + shared


def not_known(plan: LaunchPlan, model: ModelSpec) -> Iterator[Problem]:
    """Yield that an adapter's kind is none of those that are known, or not in such a launch."""
    adapter = plan.adapter
    if adapter is None or adapter.kind in BRANCHES:
        return
    targets = adapter_targets(adapter, model)
    reached = {unit.role for unit in model.units for _ in _on(plan, model, unit)}
    outer = any(outer_targets(model, unit, targets) for unit in model.units)
    mode = mode_of_adapter(plan, precision_of(plan, model))
    is_known = (
        is_priced(adapter, mode, plan.versions.get("peft"))
        and plan.base_quantization is None
        and plan.tensor_parallel_degree == 1
        and not plan.torch_compile
        and not (outer or reached.intersection(SEEING))
        and not adapted_stacks(plan, model, targets)
    )
    if not is_known:
        yield Problem(
            f"what an adapter of the kind {adapter.kind} takes here is not known: the estimate has LoRA's layers",
            where_of(plan, "adapter"),
            "--set adapter.kind=lora estimates LoRA",
            severity="warning",
            unpriced=NOT_LORA,
            takes="either",
        )

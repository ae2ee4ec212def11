"""Bytes of a tensor as a plan stores it, whole and on the fullest rank, and of what its optimizer keeps."""

from __future__ import annotations

from preflight.formulas.optimizers import state_bytes
from preflight.formulas.precision import Precision
from preflight.formulas.sharding import HeldTensor, local_elements, quantized_bytes, shards_packed
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.units import ceil_div


def whole_bytes(plan: LaunchPlan, precision: Precision, held: HeldTensor) -> int:
    """Return the bytes of one instance of a tensor before anything shards it."""
    if held.quantized:
        return quantized_bytes(plan, held.tensor.num_params)
    return _element_bytes(precision, held) * held.tensor.num_params


def local_bytes(plan: LaunchPlan, precision: Precision, held: HeldTensor) -> int:
    """Return the bytes of one instance of a tensor on the fullest rank.

    Of a packed weight the bits are sharded and the scales are not: they hang on the parameter as its
    quant_state (bitsandbytes/nn/modules.py Params4bit, 0.50.2).
    """
    if not held.quantized:
        return _element_bytes(precision, held) * local_elements(plan, held)
    whole = quantized_bytes(plan, held.tensor.num_params)
    if not shards_packed(plan, held):
        return whole
    packed = ceil_div(held.tensor.num_params, 2)
    return ceil_div(packed, plan.shard_degree) + whole - packed


def held_state_bytes(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, held: HeldTensor, elements: int
) -> int:
    """Return the optimizer-state bytes of local elements of one tensor, projected where the optimizer does that."""
    if plan.low_rank is None:
        return state_bytes(plan, precision, held.tensor, elements)
    from preflight.formulas.low_rank import low_rank_states  # few launches have any

    return low_rank_states(plan, model, precision, held, elements)


def _element_bytes(precision: Precision, held: HeldTensor) -> int:
    return precision.bytes_of("trainable" if held.trains else "frozen")

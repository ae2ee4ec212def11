"""How many elements of each parameter one rank holds, under every engine, padding included."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit, ParameterTensor
from preflight.precision import adapter_tensors, is_quantized
from preflight.units import ceil_div
from preflight.values import dataclass

NF4_BLOCK = 64
NF4_ABSMAX_BLOCK = 256
"""bitsandbytes block sizes of 4-bit weights and of their double-quantized scales (bitsandbytes/functional.py, 0.50.2)."""


@dataclass(frozen=True)
class HeldTensor:
    """One tensor kind of the model as a plan trains it."""

    unit: ModelUnit
    tensor: ParameterTensor
    count: int
    trains: bool
    quantized: bool = False


def held_tensors(plan: LaunchPlan, model: ModelSpec) -> Iterator[HeldTensor]:
    """Yield every tensor of base and adapter with whether it trains and whether it is packed."""
    frozen_base = plan.adapter is not None
    for unit, tensor in model.tensors():
        packed = plan.base_quantization is not None and is_quantized(unit, tensor)
        yield HeldTensor(unit, tensor, unit.count, not frozen_base, packed)
    if plan.adapter is not None:
        for unit, tensor in adapter_tensors(plan.adapter, model):
            yield HeldTensor(unit, tensor, unit.count, True)


def local_elements(plan: LaunchPlan, held: HeldTensor) -> int:
    """Return the elements of one instance of a tensor on the fullest rank.

    FSDP2 pads dim 0 to the shard group (torch/distributed/fsdp/_fully_shard/_fsdp_param.py, 2.13);
    FSDP1 pads the flat parameter of a unit and ZeRO each flat group: less than one element per rank
    and tensor. ZeRO-1/2 keep the parameters whole; tensor parallelism divides the layers' matrices.
    """
    shape = held.tensor.shape
    total = prod(shape)
    if plan.tensor_parallel_degree > 1 and held.unit.role == "layer" and len(shape) >= 2:
        total = ceil_div(total, plan.tensor_parallel_degree)
    if not shards_parameters(plan):
        return total
    degree = plan.shard_degree
    if plan.engine == "fsdp2" and shape:
        return ceil_div(shape[0], degree) * (total // max(1, shape[0]))
    if plan.engine == "zero3" and total <= persistence_threshold(plan, None):
        return total
    return ceil_div(total, degree)


def shards_parameters(plan: LaunchPlan) -> bool:
    return plan.is_fsdp or plan.engine == "zero3"


def persistence_threshold(plan: LaunchPlan, model: ModelSpec | None) -> int:
    """Return ZeRO-3's size below which a parameter stays whole; `auto` = 10 x hidden size (transformers/integrations/deepspeed.py:136)."""
    settings = plan.deepspeed
    if settings is None:
        return 100_000
    if settings.stage3_param_persistence_threshold is None:
        return 0 if model is None else 10 * model.hidden_size
    return settings.stage3_param_persistence_threshold


def quantized_bytes(plan: LaunchPlan, num_elements: int) -> int:
    """Return the bytes of a packed weight with its scales.

    4-bit: n/2 + one scale per 64 (fp32, or uint8 plus fp32 per 256 of them when quantized twice);
    int8: n + a fp32 scale per row (counted per 4096 elements, the narrowest row in use).
    """
    quantization = plan.base_quantization
    assert quantization is not None
    if quantization.scheme == "int8":
        return num_elements + ceil_div(num_elements, 4096) * 4
    blocks = ceil_div(num_elements, NF4_BLOCK)
    packed = ceil_div(num_elements, 2)
    if quantization.double_quant:
        return packed + blocks + 4 * ceil_div(blocks, NF4_ABSMAX_BLOCK)
    return packed + 4 * blocks


def shards_quantized_base(plan: LaunchPlan) -> bool:
    """Tell whether packed weights are sharded.

    FSDP2 leaves uint8 storage whole on every rank (accelerate/utils/fsdp_utils.py:789); DDP, single
    and ZeRO-1/2 replicate whatever the storage.
    """
    quantization = plan.base_quantization
    if quantization is None or not shards_parameters(plan):
        return False
    if plan.engine == "fsdp2":
        storage = quantization.storage_dtype
        return storage is not None and not storage.startswith(("uint8", "int8"))
    return True


@dataclass(frozen=True)
class WrapUnits:
    """FSDP's units in elements: what is gathered together."""

    layer: int
    """The largest wrapped layer."""
    embedding: int
    """0 where the embedding is not a unit of its own."""
    tail: int
    """Final norm and head: a unit in accelerate's FSDP2 wrapping."""
    root: int
    """Whatever stays in the root unit: unsharded from the start of forward to the end of backward."""
    num_layers: int
    whole: bool = False
    """True where nothing is wrapped: the model is one unit."""


def wrap_units(plan: LaunchPlan, model: ModelSpec, trains_only: bool = False) -> WrapUnits:
    """Return the unit sizes under FSDP (accelerate/utils/fsdp_utils.py:751-918 for FSDP2, accelerator.py:1919 for FSDP1).

    `trains_only` counts the elements that get gradients.
    """

    def size(unit: ModelUnit) -> int:
        total = 0
        for held in held_tensors(plan, model):
            if held.unit is not unit or (trains_only and not held.trains):
                continue
            elements = held.tensor.num_params
            if held.quantized:
                if not shards_quantized_base(plan):
                    continue
                elements = quantized_bytes(plan, elements) // 2  # as 16-bit elements
            total += elements
        return total

    layer = max((size(unit) for unit in model.layers), default=0)
    others = {unit.role: size(unit) * unit.count for unit in model.units if unit.role != "layer"}
    embedding, head = others.get("embedding", 0), others.get("lm_head", 0)
    norm, other = others.get("final_norm", 0), others.get("other", 0)
    unwrapped = plan.wrap_policy == "none" or (
        plan.wrap_policy == "size" and (plan.wrap_min_num_params or 0) > layer
    )
    everything = layer * model.num_layers + embedding + head + norm + other
    if unwrapped or not model.layers:
        return WrapUnits(everything, 0, 0, 0, 1, whole=True)
    if plan.engine == "fsdp1" or plan.trainer in ("torchtitan", "torchtune"):
        return WrapUnits(layer, 0, 0, embedding + head + norm + other, model.num_layers)
    if model.tied:
        return WrapUnits(layer, 0, embedding + norm, other, model.num_layers)
    return WrapUnits(layer, embedding, head + norm, other, model.num_layers)


def num_tokens(plan: LaunchPlan) -> int:
    """Return the tokens of one micro batch on one rank; 0 where batch or length is unknown."""
    if plan.micro_batch_size is None or plan.seq_len is None:
        return 0
    split = plan.context_parallel_degree * plan.sequence_parallel_degree
    return plan.micro_batch_size * ceil_div(plan.seq_len, split)

"""Device memory while the model is loaded, sharded and cast, before the first step."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.precision import precision_of
from preflight.sharding import HeldTensor, held_tensors, local_elements, quantized_bytes, wrap_units
from preflight.units import ceil_div

LOAD = frozenset({Moment.LOAD})
PREPARE = frozenset({Moment.PREPARE})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price loading and preparing the model on the device."""
    precision = precision_of(plan, model)
    held = list(held_tensors(plan, model))

    def whole(wanted: bool) -> int:
        return sum(
            h.count * h.tensor.num_params for h in held if h.trains is wanted and not h.quantized
        )

    packed = sum(h.count * quantized_bytes(plan, h.tensor.num_params) for h in held if h.quantized)
    frozen, trainable = whole(False), whole(True)
    weights = precision.bytes_of("frozen") * frozen + precision.bytes_of("trainable") * trainable
    if packed:
        # bitsandbytes models are on the device in full before anything shards them
        # (transformers/quantizers, device_map forced to the current device); one tensor at a time.
        largest = max(h.tensor.num_params for h in held if h.quantized)
        size = precision.bytes_of("frozen")
        yield MemoryTerm(
            "loading the quantized model",
            packed + weights + size * largest,
            LOAD,
            f"{packed:,} packed + {weights:,} + one tensor {largest:,} x {size}",
            "transformers/core_model_loading.py:1865 (5.24.0)",
        )
        return
    if plan.engine in ("single", "ddp"):
        yield MemoryTerm(
            "loading the model",
            weights,
            LOAD,
            f"{frozen + trainable:,} parameters",
            "model.to(device)",
        )
    elif plan.engine == "fsdp2":
        yield from _fsdp2(plan, model, held)
    elif plan.engine == "fsdp1":
        size = precision.bytes_of("frozen")
        units = wrap_units(plan, model)
        unit = max(units.layer, units.root)
        shards = ceil_div(size * (frozen + trainable), plan.shard_degree)
        yield MemoryTerm(
            "sharding unit by unit",
            shards + size * unit,
            PREPARE,
            f"shards {shards:,} + one unit {unit:,} x {size}",
            "torch/distributed/fsdp/_init_utils.py (2.13)",
        )
    else:
        yield from _deepspeed(plan, model, frozen + trainable, trainable)


def _fsdp2(plan: LaunchPlan, model: ModelSpec, held: list[HeldTensor]) -> Iterable[MemoryTerm]:
    precision = precision_of(plan, model)
    size = precision.bytes_of("trainable" if plan.adapter is None else "frozen")
    shards = sum(h.count * local_elements(plan, h) for h in held) * size
    if plan.offload_params != "none":
        shards = 0
    if plan.cpu_ram_efficient_loading is False:
        units = wrap_units(plan, model)
        moved = max(units.layer, units.embedding, units.tail, units.root)
        what = "one unit moved whole"
    else:
        moved = model.largest_tensor_params
        what = "one parameter broadcast whole"
    yield MemoryTerm(
        "sharding, one at a time",
        shards + size * moved,
        PREPARE,
        f"shards {shards:,} + {moved:,} x {size} ({what})",
        "accelerate/utils/fsdp_utils.py fsdp2_load_full_state_dict (1.15.0)",
    )


def _deepspeed(
    plan: LaunchPlan, model: ModelSpec, total: int, trainable: int
) -> Iterable[MemoryTerm]:
    size = precision_of(plan, model).bytes_of("compute")
    degree = plan.shard_degree
    frozen = size * (total - trainable)
    share = ceil_div(trainable, degree)
    source = "deepspeed/runtime/zero (0.19.8), measured on 2 and 4 processes"
    if plan.zero_stage == 3:
        sharded = ceil_div(size * total, degree)
        if plan.trainer == "plain_loop":
            # no zero.Init: the whole model moves to every rank before it is partitioned (engine.py:2077)
            yield MemoryTerm(
                "whole model before partitioning",
                size * total + sharded,
                PREPARE,
                f"{total:,} x {size} + {sharded:,}",
                source,
            )
            return
        largest = model.largest_layer.num_params if model.largest_layer else total
        on_gpu = plan.offload_optimizer == "none"
        states = 2 * 4 * share if on_gpu else 0
        yield MemoryTerm(
            "partitioning",
            sharded + size * largest + states,
            PREPARE,
            f"{sharded:,} + one module {largest:,} x {size} + {states:,} being made",
            source,
        )
        return
    on_gpu = plan.offload_optimizer == "none"
    second = size * trainable
    masters = 2 * 4 * share if on_gpu and plan.zero_stage else 0
    yield MemoryTerm(
        "flattening parameter groups",
        frozen + size * trainable + max(second, masters),
        PREPARE,
        f"{total:,} x {size} + the larger of {second:,} and {masters:,}",
        source,
    )

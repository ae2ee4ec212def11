"""Device memory while the model is loaded, sharded and cast, before the first step.

P parameters, W ranks of the shard group, counted on real ranks by tests/formulas/test_real_phases.py:

    FSDP2, ram-efficient   4P/W and the largest parameter, broadcast whole
    FSDP2                  4P/W, and whole embedding and tail: accelerate holds on to both weights
    FSDP1                  P/W and twice the unit at hand; then 4P/W beside the shards of the loaded dtype
    ZeRO-0                 a first optimizer step
    ZeRO-1, ZeRO-2         2P, and 8P/W
    ZeRO-3                 2P/W, and while loading the largest parameter in its loaded and its final dtype
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from preflight.formulas.adapters.adapted_experts import adapts_experts
from preflight.formulas.adapters.unpacked_experts import is_stack
from preflight.formulas.freed_blocks import UNIT_BY_UNIT, terms_left_by_sharding
from preflight.formulas.optimizers import state_bytes, step_bytes_per_element
from preflight.formulas.precision import Precision, load_dtype, precision_of
from preflight.formulas.sharding import (
    HeldTensor,
    held_quantized_bytes,
    held_tensors,
    partitions_as_made,
    quantized_bytes,
    scale_bytes,
    shards_quantized_base,
    wrap_units,
)
from preflight.formulas.stored_bytes import local_bytes, whole_bytes
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.lazy_pattern import lazy_pattern
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div, dtype_bytes
from preflight.versions.transformers import PACKED_STAYS_ON_DEVICE

LOAD = frozenset({Moment.LOAD})
PREPARE = frozenset({Moment.PREPARE})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price loading and preparing the model on the device."""
    precision = precision_of(plan, model)
    held = list(held_tensors(plan, model))
    if any(h.quantized for h in held):
        yield from _quantized(plan, model, precision, held)
    elif plan.engine in ("single", "ddp"):
        # a plan of tensor parallelism cuts every tensor before it moves to the device
        # (transformers/core_model_loading.py:1486 shard_tensor, 5.24.0)
        is_cut = plan.tensor_parallel_degree > 1
        yield MemoryTerm(
            "loading the model",
            sum(
                h.count * (local_bytes if is_cut else whole_bytes)(plan, precision, h) for h in held
            ),
            LOAD,
            f"{sum(h.count * h.tensor.num_params for h in held):,} parameters"
            + (f" over {plan.tensor_parallel_degree} ranks" if is_cut else ""),
            "model.to(device)",
        )
    elif plan.engine == "fsdp2":
        yield from _mapped(plan, model, held)
        yield from _fsdp2(plan, model, precision, held)
    elif plan.engine == "fsdp1":
        yield from _mapped(plan, model, held)
        yield from _fsdp1(plan, model, precision, held)
    else:
        yield from _deepspeed(plan, model, precision, held)


ELSEWHERE = lazy_pattern(r"cpu|meta|disk|auto|balanced|sequential")
"""Words of a device_map that may put a model, or parts of it, on no device of this rank's."""


def _mapped(plan: LaunchPlan, model: ModelSpec, held: list[HeldTensor]) -> Iterable[MemoryTerm]:
    """A script that loads with device_map={"": rank} has the whole model on every device before anything shards it."""
    mapped = plan.script_facts.device_map
    if mapped is None or ELSEWHERE.search(str(mapped.value)):
        return
    size = dtype_bytes(load_dtype(plan, model))
    total = sum(h.count * h.tensor.num_params for h in held)
    yield MemoryTerm(
        "the whole model, by the script's device_map",
        size * total,
        LOAD,
        f"{total:,} x {size}",
        "transformers/modeling_utils.py from_pretrained (5.24.0)",
    )


def _quantized(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, held: list[HeldTensor]
) -> Iterable[MemoryTerm]:
    """bitsandbytes models are on the device in full before anything shards them, one tensor at a time
    (transformers/quantizers, device_map forced to the current device)."""
    whole = sum(h.count * whole_bytes(plan, precision, h) for h in held)
    # a checkpoint that has experts one by one gives halves of a stack, which are there beside what they are joined to
    # (core_model_loading.py Concatenate, 5.24.0)
    is_joined = adapts_experts(model)
    largest = max(
        h.tensor.num_params * (2 if is_joined and is_stack(h.tensor) else 1)
        for h in held
        if h.quantized
    )
    size = precision.bytes_of("frozen")
    if _packs_one_by_one(plan):
        weights = sum(h.count * whole_bytes(plan, precision, h) for h in held if not h.quantized)
        yield from _packed_and_sharded(plan, model, held, weights, largest)
        return
    yield MemoryTerm(
        "loading the quantized model",
        whole + size * largest,
        LOAD,
        f"{whole:,} + one tensor {largest:,} x {size}",
        "transformers/core_model_loading.py:1865 (5.24.0)",
    )
    if plan.engine == "fsdp2":
        # the state dict that accelerate took before sharding holds every whole tensor to the end
        shards = sum(
            h.count * local_bytes(plan, precision, h)
            for h in held
            if not h.quantized or shards_quantized_base(plan)
        )
        shards = 0 if plan.offload_params != "none" else shards
        yield MemoryTerm(
            "sharding the quantized model",
            whole + shards,
            PREPARE,
            f"whole {whole:,} + shards {shards:,}",
            "accelerate/utils/fsdp_utils.py:822 (1.15.0): original_sd",
        )
    elif plan.engine == "fsdp1":
        units, degree = wrap_units(plan, model), plan.shard_degree
        layer, root = size * units.layer, size * units.root
        freed = units.num_layers * (layer - ceil_div(layer, degree))
        at_layer, at_root = layer + ceil_div(layer, degree), root + ceil_div(root, degree) - freed
        yield MemoryTerm(
            "sharding the quantized model",
            whole + max(at_layer, at_root),
            PREPARE,
            f"whole {whole:,} + the larger of {at_layer:,} (first layer, flat, and its shard)"
            f" and {at_root:,} (root, less what the layers gave back)",
            "torch/distributed/fsdp/_flat_param.py (2.13)",
        )
    else:
        yield MemoryTerm(
            "the quantized model before it is prepared",
            whole,
            PREPARE,
            f"{whole:,}",
            "transformers/core_model_loading.py:1865 (5.24.0)",
        )


def _packs_one_by_one(plan: LaunchPlan) -> bool:
    """Tell whether FSDP1 finds a packed model on the host, which old transformers leaves there."""
    return (
        plan.engine == "fsdp1"
        and plan.cpu_ram_efficient_loading is not False
        and not PACKED_STAYS_ON_DEVICE.holds_in(plan.versions)
    )


def _packed_and_sharded(
    plan: LaunchPlan, model: ModelSpec, held: list[HeldTensor], weights: int, largest: int
) -> Iterable[MemoryTerm]:
    size = precision_of(plan, model).bytes_of("frozen")
    packed = [h for h in held if h.quantized]
    scales = sum(h.count * scale_bytes(plan, h.tensor.num_params) for h in packed)
    one = size * largest + quantized_bytes(plan, largest)
    yield MemoryTerm(
        "packing one tensor at a time",
        scales + one,
        LOAD,
        f"scales {scales:,} + one tensor {largest:,} x {size}, and packed",
        "transformers/modeling_utils.py:876 (4.48.1)",
    )
    units = wrap_units(plan, model)
    unit = max(units.layer, units.root)
    held_here = scales
    if plan.offload_params == "none":
        held_here = ceil_div(weights, plan.shard_degree) + sum(
            h.count * held_quantized_bytes(plan, h) for h in packed
        )
    yield MemoryTerm(
        "sharding unit by unit",
        held_here + 2 * size * unit,
        PREPARE,
        f"shards and scales {held_here:,} + 2 x one unit {unit:,} x {size}",
        # an offloaded shard goes to the host as soon as it is cut; scales are no parameters and stay
        UNIT_BY_UNIT,
    )
    yield from terms_left_by_sharding(plan, model, held_here, held_here + 2 * size * unit)


def _fsdp2(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, held: list[HeldTensor]
) -> Iterable[MemoryTerm]:
    by_role = Counter[str]()
    for h in held if plan.offload_params == "none" else ():
        by_role[h.unit.role] += h.count * local_bytes(plan, precision, h)
    shards = by_role.total()
    if plan.trainer == "torchtitan":
        yield MemoryTerm(
            "shards made on the device",
            shards,
            PREPARE,
            f"{shards:,}",
            "torchtitan/train.py: meta, parallelize_fn, to_empty, init_weights (0.1.0)",
        )
        return
    if plan.cpu_ram_efficient_loading is not False:
        moved = max(whole_bytes(plan, precision, h) for h in held)
        yield MemoryTerm(
            "sharding, one at a time",
            shards + moved,
            PREPARE,
            f"shards {shards:,} + {moved:,} (one parameter broadcast whole)",
            "accelerate/utils/fsdp_utils.py fsdp2_load_full_state_dict (1.15.0)",
        )
        return
    units, trains = wrap_units(plan, model), wrap_units(plan, model, trains_only=True)
    whole = precision.whole_bytes
    layer = whole(units.layer, trains.layer)
    # `input_weight` and `output_weight` of fsdp2_prepare_model keep both moved weights alive
    ends = whole(units.embedding, trains.embedding) + whole(units.tail, trains.tail)
    root = whole(units.root, trains.root)
    at_layers = layer + (0 if units.whole else by_role["layer"])
    yield MemoryTerm(
        "sharding, one at a time",
        max(at_layers + (shards if units.whole else 0), shards + max(ends, root)),
        PREPARE,
        f"shards {shards:,} + {ends:,} (embedding and tail, whole),"
        f" or those of the layers + {layer:,} (one layer, whole)",
        "accelerate/utils/fsdp_utils.py:843 fsdp2_prepare_model (1.15.0)",
    )


def _fsdp1(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, held: list[HeldTensor]
) -> Iterable[MemoryTerm]:
    size = dtype_bytes(load_dtype(plan, model))
    units = wrap_units(plan, model)
    degree = plan.shard_degree
    on_gpu = plan.offload_params == "none"
    layers = size * ceil_div(units.layer, degree) * (units.num_layers if on_gpu else 1)
    root = size * ceil_div(units.root, degree)
    # flattened by torch.cat beside the unit's own tensors; both go when the shard is cut
    wrapping = max(layers + 2 * size * units.layer, layers + root + 2 * size * units.root)
    source = "torch/distributed/fsdp/_flat_param.py flatten_tensors_into_flat_param (2.13)"
    upcast = 0
    if on_gpu and size < precision.bytes_of("trainable"):
        upcast = sum(h.count * local_bytes(plan, precision, h) for h in held if h.trains)
        source += "; accelerate/accelerator.py:2030 (1.15.0)"
    peak = max(wrapping, layers + root + upcast)
    yield from terms_left_by_sharding(plan, model, layers + root if on_gpu else 0, peak)
    yield MemoryTerm(
        "sharding unit by unit",
        peak,
        PREPARE,
        f"shards {layers + root:,} + 2 x one unit {max(units.layer, units.root):,} x {size}"
        + (f", or + fp32 shards {upcast:,}" if upcast else ""),
        source,
    )


def _deepspeed(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, held: list[HeldTensor]
) -> Iterable[MemoryTerm]:
    total = sum(h.count * h.tensor.num_params for h in held)
    trainable = sum(h.count * h.tensor.num_params for h in held if h.trains)
    size = precision.bytes_of("compute")
    degree = plan.shard_degree
    share = ceil_div(trainable, degree if plan.zero_stage else 1)
    # fp32 masters and the gradients that DeepSpeed makes to set the optimizer up
    making = 2 * 4 * share if plan.offload_optimizer == "none" else 0
    source = "deepspeed/runtime/zero (0.19.8), measured on 2 and 4 processes"
    if plan.zero_stage == 3:
        sharded = ceil_div(size * total, degree) if plan.offload_params == "none" else 0
        if not partitions_as_made(plan):
            # no zero.Init: the whole model moves to every rank before it is partitioned (engine.py:2077)
            yield MemoryTerm(
                "whole model before partitioning",
                size * total + sharded,
                PREPARE,
                f"{total:,} x {size} + {sharded:,}",
                source,
            )
            return
        loaded = dtype_bytes(load_dtype(plan, model))
        largest = max(h.tensor.num_params for h in held)
        passing = largest * (size + (loaded if loaded != size else 0))
        passing -= ceil_div(size * largest, degree)
        yield MemoryTerm(
            "parameters made whole, cast and partitioned one by one",
            sharded + passing,
            LOAD,
            f"{sharded:,} + {passing:,}: {largest:,} in the loaded and the compute dtype, less its shard",
            "deepspeed/runtime/zero/partition_parameters.py:411 zero.Init (0.19.8)",
        )
        yield MemoryTerm(
            "partitioning",
            sharded + making,
            PREPARE,
            f"{sharded:,} + {making:,} of masters and their first gradients",
            source,
        )
        return
    # Stages 1 and 2 flatten a group on the host where the device has no room for a second copy of it, and always did
    # before 0.19.0 (runtime/zero/stage_1_and_2.py flatten_on_accelerator).
    second = size * trainable if plan.zero_stage == 0 else 0
    if second and making:
        # the optimizer steps once on zeros to make its states (fused_optimizer.py initialize_optimizer_states)
        making += sum(
            h.count * state_bytes(plan, precision, h.tensor, h.tensor.num_params)
            for h in held
            if h.trains
        )
        making += second + 4 * step_bytes_per_element(plan) * trainable
    yield MemoryTerm(
        "flattening parameter groups",
        size * total + max(second, making),
        PREPARE,
        f"{total:,} x {size} + the larger of {second:,} and {making:,}",
        source,
    )

"""Host memory of one node: loading, offloaded states, and the checkpoint being gathered.

A weight that keeps the dtype it is stored in is the mapped safetensors file itself: pages that all ranks
of the node share and that the kernel can drop, so it counts nothing; a cast one is a copy in every rank
(safetensors 0.8.0: RssFile grows when a mapped tensor is read, RssAnon when it is cast). Every rank of
transformers 5.24 reads the model, with `cpu_ram_efficient_loading` too; under ZeRO-3 rank 0 alone does.
Counted on real ranks by tests/formulas/test_real_phases.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from preflight.formulas.adapters.adapters import num_trainable_params
from preflight.formulas.engines.deepspeed_rules import settings_of, sub_groups
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.offloaded_activations import bytes_left
from preflight.formulas.optimizers import state_bytes
from preflight.formulas.precision import load_dtype, precision_of
from preflight.formulas.sharding import (
    held_tensors,
    local_elements,
    num_tokens,
    partitions_as_made,
    saves_shards,
    wrap_units,
)
from preflight.formulas.stored_bytes import held_state_bytes, local_bytes, whole_bytes
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, HOST_ALLOWANCE, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div, dtype_bytes

PREPARE = frozenset({Moment.LOAD, Moment.PREPARE})
SAVE = frozenset({Moment.SAVE})
PROCESS_BYTES = 3 * 1024**3
"""An allowance for the resident size of a rank beside the model. Measured part (2026-11, CPU build of torch 2.13,
transformers 5.24, accelerate 1.15, DeepSpeed 0.19.8, TRL 1.16, x86-64 Linux): 499 MiB after the imports,
127 of them pages of shared libraries; 0.7 GiB while it trains. The rest is for what a CPU cannot show: the
CUDA context's host side, kernels, NCCL, the data loader's workers."""

HOST_PREFIX = "host: "
Term = Callable[[str, int, frozenset[Moment], str, str], MemoryTerm]


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the host memory of the fullest node."""
    ranks = plan.ranks_per_node

    def term(
        name: str, num_bytes: int, moments: frozenset[Moment], formula: str, source: str
    ) -> MemoryTerm:
        return MemoryTerm(f"{HOST_PREFIX}{name}", num_bytes, moments, formula, source, Level.HOST)

    yield term(
        HOST_ALLOWANCE.removeprefix(HOST_PREFIX),
        ranks * PROCESS_BYTES,
        ALWAYS | PREPARE,
        f"{ranks} ranks x {PROCESS_BYTES:,}",
        "PROCESS_BYTES",
    )
    yield from _loading(plan, model, ranks, term)
    yield from _fsdp_offload(plan, model, ranks, term)
    yield from _zero_offload(plan, model, ranks, term)
    yield from _offloaded_activations(plan, model, ranks, term)
    yield from _saving(plan, model, ranks, term)


def _offloaded_activations(
    plan: LaunchPlan, model: ModelSpec, ranks: int, term: Term
) -> Iterable[MemoryTerm]:
    """Price the inputs of recomputed layers in host memory, or all that layers save where none is recomputed."""
    tokens = num_tokens(plan)
    if plan.offload_activations != "cpu" or not tokens:
        return
    precision = precision_of(plan, model)
    if plan.activation_checkpointing == "none":
        num_bytes = tokens * sum(
            unit.count * layer_costs(plan, model, unit, precision).saved
            for unit in model.layers
            if unit.layer is not None
        )
        left = tokens * sum(
            unit.count * bytes_left(plan, model, unit, precision)
            for unit in model.layers
            if unit.layer is not None
        )
        sent = max(0, num_bytes - left)
        yield term(
            "offloaded activations",
            sent * ranks,
            ALWAYS,
            f"{ranks} ranks x {sent:,}: all that the layers save, less what is saved twice",
            "trl/models/activation_offloading.py (1.16.0)",
        )
        return
    each = precision.bytes_of("compute") * model.hidden_size * tokens
    num_layers = model.num_layers
    yield term(
        "offloaded activations",
        num_layers * _pinned(each) * ranks,
        ALWAYS,
        f"{ranks} ranks x {num_layers} layers x {_pinned(each):,} ({each:,} pinned)",
        PINNED_SOURCE,
    )


PINNED_SOURCE = "ATen/core/CachingHostAllocator.h:300 (2.13): a pinned block is a power of two"


def _pinned(num_bytes: int) -> int:
    """Return the size of a pinned block: the next power of two."""
    return 1 << (num_bytes - 1).bit_length() if num_bytes > 0 else 0


def _loading(plan: LaunchPlan, model: ModelSpec, ranks: int, term: Term) -> Iterable[MemoryTerm]:
    if plan.base_quantization is not None:
        return  # read tensor by tensor and packed on the device
    if plan.trainer == "torchtitan":
        return  # made on the meta device, sharded, then filled on the GPU (train.py:148, :256, 0.2.2)
    loaded = dtype_bytes(load_dtype(plan, model))
    stored = dtype_bytes(model.config_dtype or "bf16")
    trains = num_trainable_params(plan, model)
    if partitions_as_made(plan):
        return  # rank 0 maps the checkpoint, every parameter is scattered from it as it is read
    cast = loaded * model.num_params if loaded != stored else 0
    is_wide = precision_of(plan, model).trainable == "fp32"
    if plan.engine == "fsdp2" and plan.mixed_precision != "no" and is_wide:
        frozen = model.num_params - trains if plan.adapter is None else model.num_params
        cast = loaded * frozen if loaded != stored else 0
        upcast = 4 * trains if loaded != 4 or loaded != stored or plan.adapter is not None else 0
        if upcast:
            yield term(
                "fp32 copies before sharding",
                upcast * ranks,
                PREPARE,
                f"{ranks} ranks x {trains:,} x 4",
                "accelerate/utils/fsdp_utils.py:815 (1.15.0)",
            )
    elif plan.zero_stage is not None:
        compute = precision_of(plan, model).bytes_of("compute")
        if compute != loaded:  # engine.py casts the module before it moves it, one tensor at a time
            cast = max(cast, compute * model.num_params)
    if cast:
        yield term(
            "weights cast while loading",
            cast * ranks,
            PREPARE,
            f"{ranks} ranks x {cast:,} (a cast copy is not shared)",
            "transformers/core_model_loading.py (5.24.0); safetensors memory mapping",
        )


def _fsdp_offload(
    plan: LaunchPlan, model: ModelSpec, ranks: int, term: Term
) -> Iterable[MemoryTerm]:
    if not plan.is_fsdp or plan.offload_params != "cpu":
        return
    precision = precision_of(plan, model)
    each = rounding = 0
    for held in held_tensors(plan, model):
        size = local_bytes(plan, precision, held)
        each += held.count * size
        blocks = 1
        if held.trains:
            states = state_bytes(plan, precision, held.tensor, local_elements(plan, held))
            each += held.count * (size + states)
            blocks = 2  # a gradient is copied into a pinned block of its own
        rounding += held.count * blocks * (_pinned(size) - size)
    source = "torch CPUOffloadPolicy, optimizer on the CPU; _fsdp_param.py, _fsdp_collectives.py"
    if plan.engine == "fsdp1":
        # one flat parameter and one flat gradient of each unit are pinned
        units, trains = wrap_units(plan, model), wrap_units(plan, model, trains_only=True)
        rounding = 0
        for unit, count in ((units.layer, units.num_layers), (units.root, 1)):
            size = precision.bytes_of("trainable") * ceil_div(unit, plan.shard_degree)
            rounding += (2 if trains.layer else 1) * count * (_pinned(size) - size)
        source = "torch/distributed/fsdp/_flat_param.py init_flat_param_attributes (2.13)"
    yield term(
        "offloaded parameters, gradients, states",
        ranks * each,
        ALWAYS,
        f"{ranks} ranks x {each:,}",
        source,
    )
    yield term(
        "rounding of pinned blocks",
        ranks * rounding,
        ALWAYS,
        f"{ranks} ranks x {rounding:,}",
        PINNED_SOURCE,
    )


def _zero_offload(
    plan: LaunchPlan, model: ModelSpec, ranks: int, term: Term
) -> Iterable[MemoryTerm]:
    """Price 18 bytes per offloaded parameter: fp32 master and gradients, 16-bit buffer, two fp32 states."""
    if plan.zero_stage is None or plan.offload_optimizer != "cpu":
        return
    precision = precision_of(plan, model)
    size = precision.bytes_of("compute")
    trains = num_trainable_params(plan, model)
    share = ceil_div(trains, plan.shard_degree if plan.zero_stage else 1)
    states = sum(
        held.count * state_bytes(plan, precision, held.tensor, held.tensor.num_params)
        for held in held_tensors(plan, model)
        if held.trains
    )
    states = ceil_div(states, plan.shard_degree if plan.zero_stage else 1)
    each = (8 + size) * share + states
    yield term(
        "offloaded optimizer",
        ranks * each,
        ALWAYS,
        f"{ranks} ranks x ({share:,} x (4 + 4 + {size}) + states {states:,})",
        "deepspeed/runtime/zero/stage3.py, stage_1_and_2.py (0.19.8)",
    )
    if plan.zero_stage == 3:
        # gradients by sub group and the flat 16-bit ones; the masters are not pinned
        pinned = Counter({4 * group: count for group, count in sub_groups(plan, model).items()})
        pinned[size * share] += 1
    else:
        largest = max(
            (held.tensor.num_params for held in held_tensors(plan, model) if held.trains), default=0
        )
        buffer = size * largest
        yield term(
            "gradient on its way from the device",
            ranks * buffer,
            ALWAYS,
            f"{ranks} ranks x {largest:,} x {size}: the largest parameter",
            "deepspeed/runtime/zero/stage_1_and_2.py:653 (0.19.8)",
        )
        pinned = Counter([4 * share, 4 * share, size * share, buffer])
        if plan.gradient_accumulation_steps > 1 and plan.zero_stage == 2:
            yield term(
                "gradients of earlier micro steps",
                ranks * size * share,
                ALWAYS,
                f"{ranks} ranks x {share:,} x {size}",
                "deepspeed/runtime/zero/stage_1_and_2.py:1822 (0.19.8)",
            )
    if plan.zero_stage == 3 and plan.offload_params == "cpu":
        held_here = ceil_div(model.num_params, plan.shard_degree)
        pinned[size * held_here] += 1
        yield term(
            "offloaded parameters",
            ranks * size * held_here,
            ALWAYS,
            f"{ranks} ranks x {held_here:,} x {size}",
            "deepspeed/runtime/zero/stage3.py:906 (0.19.8)",
        )
    if settings_of(plan).offload_pin_memory:
        rounding = sum(count * (_pinned(block) - block) for block, count in pinned.items())
        yield term(
            "rounding of pinned blocks",
            ranks * rounding,
            ALWAYS,
            f"{ranks} ranks x {rounding:,}: {pinned.total():,} blocks",
            PINNED_SOURCE,
        )


def _saving(plan: LaunchPlan, model: ModelSpec, ranks: int, term: Term) -> Iterable[MemoryTerm]:
    precision = precision_of(plan, model)
    held = list(held_tensors(plan, model))
    weights = sum(h.count * whole_bytes(plan, precision, h) for h in held)
    states = sum(
        h.count * held_state_bytes(plan, model, precision, h, h.tensor.num_params)
        for h in held
        if h.trains
    )
    if plan.is_fsdp:
        if saves_shards(plan):
            return  # written as it is copied
        if plan.engine == "fsdp1":
            units = wrap_units(plan, model)
            weights += precision.bytes_of("trainable") * max(units.layer, units.root)
        yield term(
            "full checkpoint on rank 0",
            max(weights, states),
            SAVE,
            f"the larger of weights {weights:,} and optimizer states {states:,}, one after the other",
            "torch/distributed/checkpoint/state_dict.py (full_state_dict, cpu_offload);"
            " transformers/trainer.py:3521 (5.24.0)",
        )
    elif plan.zero_stage == 3:
        if settings_of(plan).stage3_gather_16bit_weights_on_model_save:
            yield term(
                "full checkpoint on rank 0",
                weights,
                SAVE,
                f"{weights:,}",
                "deepspeed/runtime/engine.py:5631 (0.19.8)",
            )
    elif plan.zero_stage is not None:
        yield term(
            "copy of the weights on every rank",
            ranks * weights,
            SAVE,
            f"{ranks} ranks x {weights:,}",
            "accelerate/accelerator.py:4095 clone_tensors_for_torch_save (1.15.0)",
        )
    else:
        yield term(
            "copy of the weights on rank 0",
            weights,
            SAVE,
            f"{weights:,}",
            "safetensors/torch.py save_file keeps the host copy of every tensor (0.8.0)",
        )

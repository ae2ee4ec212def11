"""Host memory of one node: loading, offloaded states, and the checkpoint being gathered."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, Level, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.precision import load_dtype, num_trainable_params, precision_of
from preflight.sharding import held_tensors, local_elements, num_tokens
from preflight.units import ceil_div, dtype_bytes

PREPARE = frozenset({Moment.LOAD, Moment.PREPARE})
SAVE = frozenset({Moment.SAVE})
PROCESS_BYTES = 3 * 1024**3
"""Resident size of a rank with torch, transformers and a CUDA context, pages of shared libraries apart.

2.5 to 3.5 GiB on the runs described in huggingface/accelerate's memory guides; a rank on a CPU test
machine with torch 2.13 measured 0.7 GiB without CUDA.
"""


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the host memory of the fullest node."""
    ranks = plan.ranks_per_node

    def term(
        name: str, num_bytes: int, moments: frozenset[Moment], formula: str, source: str
    ) -> MemoryTerm:
        return MemoryTerm(f"host: {name}", num_bytes, moments, formula, source, Level.HOST)

    yield term(
        "processes",
        ranks * PROCESS_BYTES,
        ALWAYS | PREPARE,
        f"{ranks} ranks x {PROCESS_BYTES:,}",
        "PROCESS_BYTES",
    )
    yield from _loading(plan, model, ranks, term)
    yield from _offload(plan, model, ranks, term)
    if plan.offload_activations == "cpu" and num_tokens(plan):
        size = precision_of(plan, model).bytes_of("compute")
        each = size * model.hidden_size * model.num_layers * num_tokens(plan)
        yield term(
            "offloaded activations",
            2 * each * ranks,
            ALWAYS,
            f"{ranks} ranks x 2 x {each:,} (pinned, rounded up to powers of two)",
            "ATen/core/CachingHostAllocator.h:300",
        )
    gathers_whole = (plan.is_fsdp and plan.state_dict_type != "sharded") or (
        plan.engine == "zero3"
        and plan.deepspeed is not None
        and plan.deepspeed.stage3_gather_16bit_weights_on_model_save
    )
    if gathers_whole:
        size = precision_of(plan, model).bytes_of("trainable")
        yield term(
            "full checkpoint on rank 0",
            size * model.num_params,
            SAVE,
            f"{model.num_params:,} x {size}",
            "torch/distributed/checkpoint/state_dict.py (full_state_dict, cpu_offload)",
        )


def _loading(plan: LaunchPlan, model: ModelSpec, ranks: int, term: object) -> Iterable[MemoryTerm]:
    assert callable(term)
    loaded = dtype_bytes(load_dtype(plan, model))
    stored = dtype_bytes(model.config_dtype or "bf16")
    trains = num_trainable_params(plan, model)
    if plan.engine == "fsdp2" and plan.mixed_precision != "no" and plan.base_quantization is None:
        yield term(
            "fp32 copies before sharding",
            4 * trains * ranks,
            PREPARE,
            f"{ranks} ranks x {trains:,} x 4",
            "accelerate/utils/fsdp_utils.py:815 (1.15.0)",
        )
    elif plan.engine == "zero3" and plan.trainer != "plain_loop":
        yield term(
            "checkpoint on rank 0",
            loaded * model.num_params,
            PREPARE,
            f"{model.num_params:,} x {loaded}",
            "transformers/modeling_utils.py:4530 (5.24.0)",
        )
    elif loaded != stored and plan.base_quantization is None:
        yield term(
            "weights cast while loading",
            loaded * model.num_params * ranks,
            PREPARE,
            f"{ranks} ranks x {model.num_params:,} x {loaded} (a cast copy is not shared)",
            "safetensors memory mapping is shared only where no dtype changes",
        )


def _offload(plan: LaunchPlan, model: ModelSpec, ranks: int, term: object) -> Iterable[MemoryTerm]:
    """18 bytes per offloaded parameter: fp32 master and gradients, 16-bit buffer, two fp32 states (semantics of stage3.py)."""
    assert callable(term)
    held = list(held_tensors(plan, model))
    if plan.is_fsdp and plan.offload_params == "cpu":
        precision = precision_of(plan, model)
        local = sum(h.count * local_elements(plan, h) for h in held if h.trains)
        frozen = sum(
            h.count * local_elements(plan, h) for h in held if not h.trains and not h.quantized
        )
        size = precision.bytes_of("trainable")
        each = 4 * size * local + precision.bytes_of("frozen") * frozen
        yield term(
            "offloaded parameters, gradients, states",
            ranks * each,
            ALWAYS,
            f"{ranks} ranks x {each:,}",
            "torch CPUOffloadPolicy, optimizer on the CPU",
        )
    if plan.zero_stage is not None and plan.offload_optimizer == "cpu":
        trains = num_trainable_params(plan, model)
        share = ceil_div(trains, plan.shard_degree if plan.zero_stage else 1)
        each = 18 * share
        yield term(
            "offloaded optimizer",
            ranks * each,
            ALWAYS,
            f"{ranks} ranks x 18 x {share:,}",
            "deepspeed/runtime/zero/stage3.py, stage_1_and_2.py (0.19.8)",
        )
    if plan.zero_stage == 3 and plan.offload_params == "cpu":
        size = precision_of(plan, model).bytes_of("compute")
        share = ceil_div(model.num_params, plan.shard_degree)
        yield term(
            "offloaded parameters",
            ranks * size * share,
            ALWAYS,
            f"{ranks} ranks x {share:,} x {size}",
            "deepspeed/runtime/zero/partition_parameters.py (0.19.8)",
        )

"""Model states of one rank without DeepSpeed: parameters, gradients, optimizer states, DDP's buckets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from preflight.formulas.frozen_parts import SEEING
from preflight.formulas.optimizers import paged_bytes, state_bytes
from preflight.formulas.precision import Precision, frozen_element_bytes, keeps_fp32, precision_of
from preflight.formulas.rollouts import parameters_there, states_there
from preflight.formulas.segments import pool_of_states
from preflight.formulas.sharding import (
    held_quantized_bytes,
    held_tensors,
    local_elements,
    scale_bytes,
    shards_quantized_base,
)
from preflight.formulas.user_loop import drops_gradients, finds_gradients
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec, ModelUnit

GRADIENTS_DONE = frozenset(
    {Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD, Moment.OPTIMIZER_STEP}
)
HEAD_GRADIENT = frozenset({Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price parameters, gradients and optimizer states of single, DDP and FSDP ranks."""
    if plan.zero_stage is not None:
        return
    precision = precision_of(plan, model)
    frozen = frozen_bytes = trainable = packed = packed_elements = states = paged = 0
    head = embedding = seeing = waiting = 0
    # gradients of one table that wait for each other are in the forms of what was traced with them
    sums_words = model.tied and not model.facts.get("traced_tied")
    for held in held_tensors(plan, model):
        elements = local_elements(plan, held)
        if held.quantized:
            packed += held.count * held_quantized_bytes(plan, held)
            packed_elements += held.count * held.tensor.num_params
        elif held.trains:
            trainable += held.count * elements
            states += held.count * state_bytes(plan, precision, held.tensor, elements)
            paged += held.count * paged_bytes(plan, held.tensor, elements)
            if plan.engine == "fsdp1" and held.unit.role != "layer":
                # one flat parameter with the embedding: sharded once its gradient is complete
                embedding += held.count * elements
            elif held.unit.role in ("lm_head", "final_norm") or (
                sums_words and held.unit.role == "embedding"
            ):
                head += held.count * elements
            elif is_first_to_run(model, held.unit):
                embedding += held.count * elements
            elif held.unit.role in SEEING:
                seeing += held.count * elements
        else:
            frozen += held.count * elements
            waiting += held.count * elements if held.waits else 0
            frozen_bytes += (
                held.count
                * elements
                * frozen_element_bytes(plan, precision, held.unit, held.tensor)
            )
    on_gpu = plan.offload_params == "none"
    shards = f" in 1/{plan.shard_degree} shards" if plan.shard_degree > 1 and plan.is_fsdp else ""
    if frozen and on_gpu:
        size = frozen_bytes / frozen
        dtype = (
            precision.frozen if size == precision.bytes_of("frozen") else "fp32 in part or whole"
        )
        yield MemoryTerm(
            "parameters, frozen",
            frozen_bytes,
            parameters_there(plan),
            f"{frozen:,} x {size:.4g} ({dtype}){shards}",
            "torch.nn.Parameter storage",
        )
    if packed and not on_gpu:
        scales = sum(
            held.count * scale_bytes(plan, held.tensor.num_params)
            for held in held_tensors(plan, model)
            if held.quantized
        )
        yield MemoryTerm(
            "scales of the quantized base",
            scales,
            ALWAYS,
            f"of {packed_elements:,} elements: they are no parameters, so no engine moves them",
            "bitsandbytes/nn/modules.py Params4bit.quant_state (0.50.2)",
        )
    if packed and on_gpu:
        scheme = plan.base_quantization.scheme if plan.base_quantization else ""
        yield MemoryTerm(
            "parameters, quantized",
            packed,
            parameters_there(plan),
            f"{packed_elements:,} elements as {scheme}"
            + (
                f"{shards}, scales whole"
                if shards_quantized_base(plan)
                else ", a full copy per rank"
            ),
            "bitsandbytes/functional.py, 0.50.2",
        )
    if not trainable:
        return
    size = precision.bytes_of("trainable")
    if on_gpu:
        yield MemoryTerm(
            "parameters, trainable",
            size * trainable,
            parameters_there(plan),
            f"{trainable:,} x {size} ({precision.trainable}){shards}",
            "torch.nn.Parameter storage; accelerate/utils/fsdp_utils.py:815 (1.15.0)"
            if plan.is_fsdp
            else "torch.nn.Parameter storage",
        )
    yield from _wider(plan, model, precision)
    grad = precision.bytes_of("gradient")
    if on_gpu:
        # FSDP makes the shards on the stream that reduces: _fsdp_collectives.py foreach_reduce,
        # _runtime_utils.py _post_backward_hook (torch 2.13)
        stream = "reduce_scatter" if plan.is_fsdp else pool_of_states(plan, model)
        yield from _gradients(
            plan, grad, trainable, head, embedding, seeing, precision.gradient, shards, stream
        )
        yield from _whole_gradient(plan, model, precision, embedding)
        if sums_words and not plan.is_fsdp and plan.adapter is None:
            if finds_gradients(plan):
                # .grad is there already, so the head's gradient waits beside it for the embedding's
                yield MemoryTerm(
                    "gradient of the head, kept for the tied embedding's",
                    grad * model.embedding_params,
                    frozenset({Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD}),
                    f"{model.embedding_params:,} x {grad} ({precision.gradient})",
                    "torch/csrc/autograd/input_buffer.cpp: kept until every use has added its own",
                )
            # the head's gradient, the embedding's own dense one, and their sum, which is counted above
            yield MemoryTerm(
                "gradients summed for the tied embedding",
                2 * grad * model.embedding_params,
                frozenset({Moment.EMBEDDING_BACKWARD}),
                f"2 x {model.embedding_params:,} x {grad} ({precision.gradient})",
                "torch/csrc/autograd/input_buffer.cpp: out-of-place sum of two contributions",
            )
    if plan.offload_optimizer == "none" and on_gpu:
        yield MemoryTerm(
            "optimizer states",
            states - paged,
            states_there(plan),
            f"{plan.optimizer}: {states / trainable:.4g} bytes x {trainable:,}{shards}"
            + (f", less {paged:,} that are paged" if paged else ""),
            "torch/optim; bitsandbytes/optim/optimizer.py (8-bit)",
            from_second_step=True,
            stream=pool_of_states(plan, model),
        )
    if plan.engine == "ddp":
        yield MemoryTerm(
            "gradient buckets (DDP)",
            grad * (trainable + waiting),
            ALWAYS,
            f"{trainable + waiting:,} x {grad}: a second copy, gradient_as_bucket_view is off in Trainer",
            "transformers/trainer.py:744 (5.24.0); torch/csrc/distributed/c10d/reducer.cpp",
        )


def _whole_gradient(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, embedding: int
) -> Iterable[MemoryTerm]:
    """Yield what the gradient of a divided embedding holds beyond its rank's rows, which are a view of the whole."""
    if plan.is_fsdp or plan.zero_stage is not None or not embedding:
        return
    more = model.embedding_params - embedding
    if plan.tensor_parallel_degree == 1 or more <= 0:
        return
    size = precision.bytes_of("gradient")
    moments = frozenset({Moment.EMBEDDING_BACKWARD, Moment.OPTIMIZER_STEP})
    yield MemoryTerm(
        "gradient of the embedding, other ranks' rows",
        size * more,
        moments if not finds_gradients(plan) else frozenset((*STEP_MOMENTS, Moment.OPTIMIZER_STEP)),
        f"({model.embedding_params:,} - {embedding:,}) x {size}",
        "torch/distributed/tensor/_ops/_embedding_ops.py, placement_types.py Shard: a chunk of embedding_dense_backward (2.13)",
    )


def is_first_to_run(model: ModelSpec, unit: ModelUnit) -> bool:
    """Tell whether a module has its gradient last of all: tables of words, but where an encoder of sound runs first."""
    return unit.name == "model.encoder" if model.facts.get("hears") else unit.role == "embedding"


def _wider(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> Iterable[MemoryTerm]:
    """Routers that transformers keeps in fp32: what that adds to the terms of a 16-bit model."""
    if not keeps_fp32(plan) or precision.bytes_of("trainable") != 2:
        return
    wide = replace(precision, trainable="fp32", gradient="fp32", optimizer_state="fp32")
    num_params = num_bytes = 0
    for held in held_tensors(plan, model):
        if held.trains and held.tensor.stays_fp32:
            elements = held.tensor.num_params
            num_params += held.count * elements
            num_bytes += held.count * (
                state_bytes(plan, wide, held.tensor, elements)
                - state_bytes(plan, precision, held.tensor, elements)
            )
    if not num_params:
        return
    moments = (
        frozenset((*STEP_MOMENTS, Moment.OPTIMIZER_STEP))
        if finds_gradients(plan)
        else GRADIENTS_DONE
    )
    source = "transformers _keep_in_fp32_modules_strict (5.24.0)"
    formula = f"{num_params:,} x 2 more than in 16 bits"
    yield MemoryTerm("parameters that stay fp32", 2 * num_params, ALWAYS, formula, source)
    yield MemoryTerm("gradients of what stays fp32", 2 * num_params, moments, formula, source)
    if num_bytes:
        yield MemoryTerm(
            "optimizer states of what stays fp32",
            num_bytes,
            ALWAYS,
            f"{num_bytes:,} more than in 16 bits",
            source,
            from_second_step=True,
        )


def _gradients(
    plan: LaunchPlan,
    size: int,
    trainable: int,
    head: int,
    embedding: int,
    seeing: int,
    dtype: str,
    shards: str,
    stream: str,
) -> Iterable[MemoryTerm]:
    source = "torch autograd: .grad has the parameter's dtype and shard"
    no_sync = plan.is_fsdp and not plan.sync_each_batch and plan.gradient_accumulation_steps > 1
    if no_sync:
        # unsharded until the last micro step (memory_sharding); shards replace them unit by unit
        yield MemoryTerm(
            "gradients",
            size * trainable,
            frozenset({Moment.OPTIMIZER_STEP}),
            f"{trainable:,} x {size} ({dtype}){shards}",
            source,
            stream=stream,
        )
        if not drops_gradients(plan):
            yield MemoryTerm(
                "gradients of the step before, as zeros",
                size * trainable,
                frozenset(STEP_MOMENTS),
                f"{trainable:,} x {size} ({dtype}){shards}",
                source,
                from_second_step=True,
                stream=stream,
            )
        return
    if finds_gradients(plan):
        why = "micro steps" if plan.gradient_accumulation_steps > 1 else "steps, as zeros"
        yield MemoryTerm(
            "gradients",
            size * trainable,
            frozenset((*STEP_MOMENTS, Moment.OPTIMIZER_STEP)),
            f"{trainable:,} x {size} ({dtype}){shards}, kept between {why}",
            source,
            stream=stream,
        )
        return
    yield MemoryTerm(
        "gradients",
        size * (trainable - embedding - seeing),
        GRADIENTS_DONE,
        f"{trainable - embedding - seeing:,} x {size} ({dtype}){shards}, embedding apart",
        source,
        stream=stream,
    )
    if seeing:
        yield MemoryTerm(
            "gradients of tower and projector",
            size * seeing,
            GRADIENTS_DONE - {Moment.FIRST_LAYER_BACKWARD} | {Moment.TOWER_BACKWARD},
            f"{seeing:,} x {size} ({dtype}){shards}",
            source,
            stream=stream,
        )
    if embedding:
        # under FSDP the shard is made after the dense gradient that memory_sharding counts
        moments = {Moment.OPTIMIZER_STEP}
        if not plan.is_fsdp:
            moments.add(Moment.EMBEDDING_BACKWARD)
        yield MemoryTerm(
            "gradient of the embedding",
            size * embedding,
            frozenset(moments),
            f"{embedding:,} x {size} ({dtype}){shards}",
            source,
            stream=stream,
        )
    if head:
        yield MemoryTerm(
            "gradient of the head",
            size * head,
            HEAD_GRADIENT,
            f"{head:,} x {size} ({dtype}){shards}",
            source,
            stream=stream,
        )

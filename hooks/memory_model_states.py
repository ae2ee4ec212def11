"""Model states of one rank without DeepSpeed: parameters, gradients, optimizer states, DDP's buckets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import fields

from preflight.formulas.adapters.frozen_parts import SEEING
from preflight.formulas.engines.rollouts import between_micro_steps, parameters_there, states_there
from preflight.formulas.layers.beside_layers import shared_bytes
from preflight.formulas.optimizers import paged_bytes
from preflight.formulas.precision import Precision, frozen_element_bytes, keeps_fp32, precision_of
from preflight.formulas.segments import pool_of_states
from preflight.formulas.sharding import (
    held_quantized_bytes,
    held_tensors,
    local_elements,
    scale_bytes,
    shards_quantized_base,
)
from preflight.formulas.stored_bytes import held_state_bytes
from preflight.formulas.user_loop import drops_gradients, finds_gradients, has_one_gradient
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, LAYER_BACKWARD, STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec, ModelUnit
from preflight.values import dataclass, replace

GRADIENTS_DONE = frozenset(
    {Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD, Moment.OPTIMIZER_STEP}
)
HEAD_GRADIENT = frozenset({Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD})


@dataclass(frozen=True)
class States:
    """Elements of one rank, and bytes, by what becomes of the tensors that they are of."""

    frozen: int
    frozen_bytes: int
    waiting: int
    """Frozen for now, and trained later."""
    packed: int
    packed_bytes: int
    trainable: int
    optimizer_bytes: int
    paged_bytes: int
    """Of the optimizer's, what lies in paged memory."""
    head: int
    """Trained, with a gradient from the head's backward on."""
    embedding: int
    """Trained, with a gradient at the end of backward."""
    seeing: int
    """Trained, of a tower and its projector."""

    @classmethod
    def of(cls, plan: LaunchPlan, model: ModelSpec, precision: Precision) -> States:
        """Add up the tensors that a rank holds."""
        sums = Counter[str]()
        for held in held_tensors(plan, model):
            each = local_elements(plan, held)
            elements = held.count * each
            if held.quantized:
                sums["packed"] += held.count * held.tensor.num_params
                sums["packed_bytes"] += held.count * held_quantized_bytes(plan, held)
            elif held.trains:
                states = held_state_bytes(plan, model, precision, held, each)
                sums["trainable"] += elements
                sums["optimizer_bytes"] += held.count * states
                sums["paged_bytes"] += held.count * paged_bytes(plan, held.tensor, each)
                sums[_gradient_group(plan, model, held.unit)] += elements
            else:
                size = frozen_element_bytes(plan, precision, held.unit, held.tensor)
                sums["frozen"] += elements
                sums["frozen_bytes"] += size * elements
                sums["waiting"] += elements if held.waits else 0
        return cls(*(sums[part.name] for part in fields(cls)))


def _gradient_group(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> str:
    """Return which sum of States a module's gradient is in beside `trainable`; empty for those of layers."""
    if plan.engine == "fsdp1" and unit.role != "layer":
        return "embedding"  # one flat parameter with it: sharded once its gradient is complete
    is_summed = unit.role == "embedding" and _sums_words(model)
    if unit.role in ("lm_head", "final_norm") or is_summed:
        return "head"
    if is_first_to_run(model, unit):
        return "embedding"
    return "seeing" if unit.role in SEEING else ""


def _sums_words(model: ModelSpec) -> bool:
    """Tell whether gradients of one table wait for each other, where they are not in the forms of what was traced."""
    return model.tied and not model.facts.get("traced_tied")


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price parameters, gradients and optimizer states of single, DDP and FSDP ranks."""
    if plan.zero_stage is not None:
        return
    precision = precision_of(plan, model)
    states = States.of(plan, model, precision)
    shards = f" in 1/{plan.shard_degree} shards" if plan.shard_degree > 1 and plan.is_fsdp else ""
    yield from _frozen(plan, model, precision, states, shards)
    if plan.trainer == "litgpt" and plan.base_quantization is not None:
        from preflight.formulas.layers.lit_layers import gradient_of_words

        yield from gradient_of_words(plan, model, precision)
    if not states.trainable:
        return
    on_gpu, storage = plan.offload_params == "none", "torch.nn.Parameter storage"
    size, gradient_size = precision.bytes_of("trainable"), precision.bytes_of("gradient")
    if on_gpu:
        yield MemoryTerm(
            "parameters, trainable",
            size * states.trainable,
            parameters_there(plan),
            f"{states.trainable:,} x {size} ({precision.trainable}){shards}",
            f"{storage}; accelerate/utils/fsdp_utils.py:815 (1.15.0)" if plan.is_fsdp else storage,
        )
    yield from _wider(plan, model, precision)
    if plan.layers_at_a_time is not None:
        largest = max(held.tensor.num_params for held in held_tensors(plan, model) if held.trains)
        yield from _copied(states.trainable, largest, gradient_size)
    if on_gpu:
        # FSDP makes the shards on the stream that reduces: _fsdp_collectives.py foreach_reduce,
        # _runtime_utils.py _post_backward_hook (torch 2.13)
        stream = "reduce_scatter" if plan.is_fsdp else pool_of_states(plan, model)
        note = f" ({precision.gradient}){shards}"
        yield from _gradients(plan, model, gradient_size, states, note, stream)
        yield from _whole_gradient(plan, model, precision, states.embedding)
        if _sums_words(model) and not plan.is_fsdp and plan.adapter is None:
            yield from _summed(plan, model, precision)
    if plan.offload_optimizer == "none" and on_gpu:
        each, paged = states.optimizer_bytes / states.trainable, states.paged_bytes
        yield MemoryTerm(
            "optimizer states",
            states.optimizer_bytes - paged,
            states_there(plan),
            f"{plan.optimizer}: {each:.4g} bytes x {states.trainable:,}{shards}"
            + (f", less {paged:,} that are paged" if paged else ""),
            "torch/optim; bitsandbytes/optim/optimizer.py (8-bit)",
            from_second_step=True,
            stream=pool_of_states(plan, model),
        )
    if plan.engine == "ddp" and plan.tensor_parallel_degree == 1:
        # a model that is divided is not wrapped (accelerate/accelerator.py:1883, 1.15.0)
        reduced = states.trainable + states.waiting
        yield MemoryTerm(
            "gradient buckets (DDP)",
            gradient_size * reduced,
            ALWAYS,
            f"{reduced:,} x {gradient_size}: a second copy, gradient_as_bucket_view is off in Trainer",
            "transformers/trainer.py:744 (5.24.0); torch/csrc/distributed/c10d/reducer.cpp",
        )


def _copied(trainable: int, largest: int, gradient_size: int) -> Iterable[MemoryTerm]:
    """Yield the fp32 copies of layers that train in turns, which the optimizer has, and what their gradients take more.

    Gradients are made wide one by one, and the narrow ones freed. At a switch the next layers' copies are made beside the
    ones before and their states, when no gradient is left, which is no more.
    """
    source = "badam 1.4 block_optim.py _switch_trainable_params_single_gpu, _grad_to_hp"
    formula = f"{trainable:,} x 4"
    yield MemoryTerm("fp32 copies of what trains", 4 * trainable, ALWAYS, formula, source)
    more = 4 - gradient_size
    if more:
        yield MemoryTerm(
            "gradients of fp32 copies",
            more * trainable + gradient_size * largest,
            frozenset({Moment.OPTIMIZER_STEP}),
            f"{trainable:,} x {more} more than narrow ones, and one of those",
            source,
        )


def _frozen(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, states: States, shards: str
) -> Iterable[MemoryTerm]:
    """Yield parameters that are not trained, and those that are packed."""
    on_gpu = plan.offload_params == "none"
    if states.frozen and on_gpu:
        size = states.frozen_bytes / states.frozen
        is_one = size == precision.bytes_of("frozen")
        dtype = precision.frozen if is_one else "fp32 in part or whole"
        yield MemoryTerm(
            "parameters, frozen",
            states.frozen_bytes,
            parameters_there(plan),
            f"{states.frozen:,} x {size:.4g} ({dtype}){shards}",
            "torch.nn.Parameter storage",
        )
    if states.packed and not on_gpu:
        packed = (held for held in held_tensors(plan, model) if held.quantized)
        yield MemoryTerm(
            "scales of the quantized base",
            sum(held.count * scale_bytes(plan, held.tensor.num_params) for held in packed),
            ALWAYS,
            f"of {states.packed:,} elements: they are no parameters, so no engine moves them",
            "bitsandbytes/nn/modules.py Params4bit.quant_state (0.50.2)",
        )
    if states.packed and on_gpu:
        scheme = plan.base_quantization.scheme if plan.base_quantization else ""
        is_divided = shards_quantized_base(plan)
        held_as = f"{shards}, scales whole" if is_divided else ", a full copy per rank"
        yield MemoryTerm(
            "parameters, quantized",
            states.packed_bytes,
            parameters_there(plan),
            f"{states.packed:,} elements as {scheme}{held_as}",
            "bitsandbytes/functional.py, 0.50.2",
        )


def _summed(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> Iterable[MemoryTerm]:
    """Yield the gradients of head and table of words until they are one."""
    size, words = precision.bytes_of("gradient"), model.embedding_params
    formula = f"{words:,} x {size} ({precision.gradient})"
    if has_one_gradient(plan):
        # no .grad of this backward's is the head's: it waits beside what is there for the embedding's
        yield MemoryTerm(
            "gradient of the head, kept for the tied embedding's",
            size * words,
            LAYER_BACKWARD,
            formula,
            "torch/csrc/autograd/input_buffer.cpp: kept until every use has added its own",
        )
    # the head's gradient, the embedding's own dense one, and their sum, which is counted above
    yield MemoryTerm(
        "gradients summed for the tied embedding",
        2 * size * words,
        frozenset({Moment.EMBEDDING_BACKWARD}),
        f"2 x {formula}",
        "torch/csrc/autograd/input_buffer.cpp: out-of-place sum of two contributions",
    )


def _one_by_one(
    plan: LaunchPlan,
    model: ModelSpec,
    states: States,
    term: Callable[..., MemoryTerm],
) -> Iterable[MemoryTerm]:
    """Yield gradients that are freed before the next is made: a layer's own are among what its backward has in passing.

    FSDP makes the shards of a unit when its activations are gone, and they are freed before the next unit's backward peaks.
    """
    if plan.is_fsdp:
        return
    if shared_bytes(plan, model, precision_of(plan, model)) is None:  # elsewhere these are in it
        yield term("gradient of the head", states.head, {Moment.HEAD_BACKWARD})
        yield term("gradient of the embedding", states.embedding, {Moment.EMBEDDING_BACKWARD})
    if states.seeing:
        yield term("gradients of tower and projector", states.seeing, {Moment.TOWER_BACKWARD})


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
        moments if not finds_gradients(plan) else _throughout(plan),
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
                held_state_bytes(plan, model, wide, held, elements)
                - held_state_bytes(plan, model, precision, held, elements)
            )
    if not num_params:
        return
    moments = _throughout(plan) if finds_gradients(plan) else GRADIENTS_DONE
    if plan.optimizer_in_backward:
        moments = LAYER_BACKWARD
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


def _throughout(plan: LaunchPlan) -> frozenset[Moment]:
    """Return when gradients are there that a forward finds: in every step, and in a rollout between two micro steps."""
    return frozenset((*STEP_MOMENTS, Moment.OPTIMIZER_STEP)) | between_micro_steps(plan)


def _gradients(
    plan: LaunchPlan, model: ModelSpec, size: int, states: States, note: str, stream: str
) -> Iterable[MemoryTerm]:
    """Yield the gradients that a step leaves, each from when it is there; `note` is their dtype and shards."""

    def term(
        name: str, elements: int, moments: Iterable[Moment], more: str = "", later: bool = False
    ) -> MemoryTerm:
        return MemoryTerm(
            name,
            size * elements,
            frozenset(moments),
            f"{elements:,} x {size}{note}{more}",
            "torch autograd: .grad has the parameter's dtype and shard",
            from_second_step=later,
            stream=stream,
        )

    if plan.is_fsdp and not plan.sync_each_batch and plan.gradient_accumulation_steps > 1:
        # unsharded until the last micro step (memory_sharding); shards replace them unit by unit
        yield term("gradients", states.trainable, {Moment.OPTIMIZER_STEP})
        if not drops_gradients(plan):
            name = "gradients of the step before, as zeros"
            yield term(name, states.trainable, STEP_MOMENTS, later=True)
        return
    if finds_gradients(plan):
        why = "micro steps" if plan.gradient_accumulation_steps > 1 else "steps, as zeros"
        yield term("gradients", states.trainable, _throughout(plan), f", kept between {why}")
        return
    if plan.optimizer_in_backward:
        yield from _one_by_one(plan, model, states, term)
        return
    others = states.trainable - states.embedding - states.seeing
    yield term("gradients", others, GRADIENTS_DONE, ", embedding apart")
    if states.seeing:
        moments = GRADIENTS_DONE - {Moment.FIRST_LAYER_BACKWARD} | {Moment.TOWER_BACKWARD}
        yield term("gradients of tower and projector", states.seeing, moments)
    if states.embedding:
        # under FSDP the shard is made after the dense gradient that memory_sharding counts
        dense = () if plan.is_fsdp else (Moment.EMBEDDING_BACKWARD,)
        yield term("gradient of the embedding", states.embedding, (Moment.OPTIMIZER_STEP, *dense))
    if states.head:
        yield term("gradient of the head", states.head, HEAD_GRADIENT)

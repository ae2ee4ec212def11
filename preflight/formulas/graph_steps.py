"""The most that a step of torchtitan's graph trainer takes beside torchtitan's own, which its launches are estimated with.

What eager code checkpoints, passes over the traced graph recompute: of its nodes products of matrices, attention and what ranks
send are kept, every one that the backward reads; grouped products of experts are not (experiments/graph_trainer/memory_policy.py
tag_sac_policy). Layers are gathered one ahead of the one that runs and are not kept, as FSDP2's are, in buffers of the same
sizes. The graph gives its gradients, which are then added to those that wait (trainer.py, accumulate_param_grads_); over
replicas they are reduced whole, then divided (simple_fsdp.py replicate_compute). tests/formulas/test_graph_steps.py holds
graphs that were walked over.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import Precision, precision_of
from preflight.formulas.sharding import held_tensors, local_elements, num_tokens, wrap_units
from preflight.formulas.tensor_parallel import cuts_stream
from preflight.launch import LaunchPlan
from preflight.memory import ALL_SAVED, EVERY_STEP, LAYER_BACKWARD, MemoryTerm, Moment, at_most
from preflight.model import LINEAR, ModelSpec, ModelUnit
from preflight.units import ceil_div
from preflight.unpriced_names import GRAPH_STEP

_term = partial(at_most, source=GRAPH_STEP)

TYPES = frozenset({"llama", "qwen3", "qwen3_moe", "deepseek_v2"})
"""Types whose graphs were walked over."""
IN_BACKWARD = frozenset(EVERY_STEP) - {Moment.FORWARD, Moment.LOSS_FORWARD, Moment.TOWER_FORWARD}


def graph_step_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of what a graph may keep beyond the estimate; none where nobody walked over one."""
    is_text = model.is_decoder_lm and not model.has_towers and model.model_type in TYPES
    is_known = plan.engine == "fsdp2" and plan.adapter is None and plan.offload_params == "none"
    if not (is_text and is_known and plan.seq_len and model.layers):
        return []
    return list(_terms(plan, model))


def _terms(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    precision, tokens = precision_of(plan, model), num_tokens(plan)
    if plan.activation_checkpointing == "selective_op":
        each = 0
        for unit in model.layers:
            kept = layer_costs(plan, model, unit, precision).selective
            each += unit.count * max(0, _kept(plan, unit, precision) - kept)
        yield _term("every product of matrices", tokens * each, ALL_SAVED, f"{tokens:,} x {each:,}")
    trained = [held for held in held_tensors(plan, model) if held.trains]
    shards = sum(local_elements(plan, held) for held in trained)
    size = precision.bytes_of("trainable")
    yield _term("gradients of a graph", shards * size, IN_BACKWARD, f"{shards:,} x {size}")
    # The head stays gathered through its backward; gradients are cast one by one, then packed to be divided.
    units = wrap_units(plan, model, trains_only=True, padded=True)
    compute, reduced = precision.bytes_of("compute"), 2 if plan.reduce_dtype == "bf16" else 4
    head, words = units.tail + units.root, max(units.embedding, units.tail)
    for name, count, width, moments in (
        ("gathered head of a graph", head, compute, {Moment.HEAD_BACKWARD}),
        ("gradients of a graph's layer, cast", units.layer, reduced, LAYER_BACKWARD),
        ("gradient of a graph's words, cast", words, reduced, {Moment.EMBEDDING_BACKWARD}),
    ):
        yield _term(name, count * width, frozenset(moments), f"{count:,} x {width}")
    if (plan.replicate_degree or 1) > 1:
        largest = max(units.layer, head, words)
        formula = f"{largest:,} x {reduced}"
        yield _term("a sum over replicas", largest * reduced, IN_BACKWARD, formula)


def _kept(plan: LaunchPlan, unit: ModelUnit, precision: Precision) -> int:
    """Return the bytes of a token that stay of a layer: its input, what matrices and attention give, and sums of scores."""
    shape = unit.layer
    assert shape is not None
    out = shape.num_heads * (shape.v_head_dim or shape.head_dim)
    products = sum(tensor.shape[0] for tensor in unit.tensors if tensor.kind == LINEAR)
    inner = precision.bytes_of("compute") * (products + out) + 4 * shape.num_heads
    stream = precision.bytes_of("compute") * shape.hidden_size
    degree = plan.tensor_parallel_degree
    return ceil_div(inner + stream, degree) if cuts_stream(plan) else inner + stream

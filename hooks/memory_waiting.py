"""Gradients that wait: of a step with several forwards and one backward, none is done before the last forward's is added.

Autograd goes back through the newest forward first (Engine::ready_queue orders by sequence number), and hands a
parameter's gradient on when every use of it has added its own: those of one forward are whole in the engine's buffers
while the next one's activations are all still there, in which FSDP's and ZeRO's hooks do not see them. W are those
gradients, A the activations that went with the first backward:

    beginning of the backward    all activations
    when the first is through    all activations - A + W
    embedding                    the one that waits, the new one and their sum, which is not made in place

tests/formulas/test_objectives.py and test_waiting_ranks.py count it on one rank and on two.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.deepspeed_rules import live_parameters, prefetch_elements
from preflight.formulas.layers.checkpointing import is_reentrant
from preflight.formulas.layers.heads import scores
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objective import forwards_at_once, of_one_forward
from preflight.formulas.objectives.kept_forwards import kept_by_layers, kept_to_be_pooled
from preflight.formulas.precision import gradient_element_bytes, precision_of
from preflight.formulas.sharding import held_tensors, num_tokens, wrap_units
from preflight.formulas.tensor_parallel import divided_elements
from preflight.formulas.texts import forwards_of, waiting_len
from preflight.formulas.user_loop import has_one_gradient
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.values import replace

SOURCE = "torch/csrc/autograd/engine.cpp, input_buffer.cpp (2.13): a node runs when all of its inputs are there"
AFTER_FIRST = frozenset({Moment.LAST_LAYER_BACKWARD})
LOSS_BACKWARD = frozenset({Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD})
EMBEDDING = frozenset({Moment.EMBEDDING_BACKWARD})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price the gradients of one forward that wait for those of another."""
    forwards = num_forwards(plan)
    if forwards == 1 or not num_tokens(plan) or not model.layers:
        return
    if is_reentrant(plan) and (plan.is_fsdp or plan.zero_stage is not None):
        return  # each layer's backward is one of its own, whose gradients are reduced at once
    waiting, largest, embedding = _gradients(plan, model)
    rest = _one_forward(plan)
    gone = _kept_by_first(plan, model, forwards) + _released(plan, model)
    gone += max(0, _in_last_layer(of_one_forward(plan), model) - _in_last_layer(rest, model))
    beyond = waiting + largest - gone
    if beyond > 0:
        # logits of the forward that goes back later are there still, and no more than those of all
        yield MemoryTerm(
            "gradients that wait for another forward's",
            beyond,
            AFTER_FIRST if scores(plan, model) else AFTER_FIRST | LOSS_BACKWARD,
            f"{waiting:,} and {largest:,} of a sum, beyond {gone:,} of activations that are gone by then",
            SOURCE,
        )
    if embedding:
        yield MemoryTerm(
            "gradients of the embedding, added up",
            2 * embedding,
            EMBEDDING,
            f"2 x {embedding:,}: another forward's, and the sum",
            SOURCE,
        )


def num_forwards(plan: LaunchPlan) -> int:
    """Return the forwards of a micro step whose activations wait for one backward."""
    if plan.objective == "embedding":
        return 1 + (forwards_of(plan).waiting > 0)
    return forwards_at_once(plan)


def _gradients(plan: LaunchPlan, model: ModelSpec) -> tuple[int, int, int]:
    """Return the bytes of all gradients before an engine reduces them, of the largest sum that is made of two, and of the
    words' table."""
    precision = precision_of(plan, model)
    is_mixed = plan.zero_stage is not None or (plan.is_fsdp and plan.mixed_precision != "no")
    total = largest = embedding = 0
    is_sharded = plan.is_fsdp or plan.zero_stage is not None
    has_head = not is_sharded and not has_one_gradient(plan)  # memory_model_states has it by then
    for held in held_tensors(plan, model):
        if not held.trains or (has_head and held.unit.role in ("lm_head", "final_norm")):
            continue
        size = (
            precision.bytes_of("compute")
            if is_mixed
            else gradient_element_bytes(plan, precision, held.tensor)
        )
        num_bytes = size * divided_elements(plan, held.unit, held.tensor)
        total += held.count * num_bytes
        if held.unit.role == "embedding":
            embedding += held.count * num_bytes
        else:
            largest = max(largest, num_bytes)
    if plan.is_fsdp:
        units = wrap_units(plan, model, trains_only=True, padded=True)
        size = precision.bytes_of("compute" if is_mixed else "gradient")
        largest = size * units.layer  # copied to be reduced, beside those that wait
    if plan.engine == "fsdp1":  # each unit has one flat gradient, and the sum of two
        largest, embedding = 2 * largest, size * units.root
    return total, largest, embedding


def _one_forward(plan: LaunchPlan) -> LaunchPlan:
    """Return the plan of the forward that goes back next, whose gradients are added to what is there."""
    rows, length = plan.micro_batch_size, plan.seq_len
    if plan.objective == "embedding":
        rows, length = min(forwards_of(plan).rows, forwards_of(plan).waiting), waiting_len(plan)
    found = replace(plan, objective=None, micro_batch_size=rows, seq_len=length)
    return replace(found, gradient_accumulation_steps=2)


def _in_last_layer(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return what a layer's backward has at its worst, beside what is kept before it."""
    precision, found = precision_of(plan, model), 0
    for unit in model.layers:
        if unit.layer is None:
            continue
        cost = layer_costs(plan, model, unit, precision)
        each = cost.backward_transient
        each += 0 if plan.activation_checkpointing == "none" else cost.saved
        of_trace = cost.traced_backward_bytes if plan.engine in ("single", "ddp") else None
        found = max(found, num_tokens(plan) * each if of_trace is None else of_trace)
    return found


def _released(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return what ZeRO-3 keeps gathered when a backward begins and has let go of when one forward is through: all but a layer
    and what is fetched ahead."""
    if plan.engine != "zero3":
        return 0
    layer = model.largest_layer
    live, ahead = live_parameters(plan, model), prefetch_elements(plan, model)
    rest = max(0, live - ahead - (layer.num_params if layer else 0))
    return precision_of(plan, model).bytes_of("compute") * rest


def _kept_by_first(plan: LaunchPlan, model: ModelSpec, forwards: int) -> int:
    """Return what is kept of the forward that goes back first, at least."""
    if plan.offload_activations != "none":
        return 0
    if plan.objective != "embedding":
        return kept_by_layers(plan, model, num_tokens(plan) // forwards, 1)
    tokens = num_tokens(plan)
    return kept_by_layers(plan, model, tokens, 1) + kept_to_be_pooled(plan, model, tokens)

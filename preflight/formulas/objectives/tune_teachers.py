"""A teacher of torchtune's knowledge distillation: its weights, its forward, and what a divergence from it keeps.

The recipes load it whole in their own dtype, or shard it as they shard the student, and run it under no_grad
(recipes/knowledge_distillation_single_device.py:455-480 and 620-665, knowledge_distillation_distributed.py:770-808, 0.6.1).
The divergence is taken before the cross entropy, and of both the backward comes to the head together. Bytes of an entry of
the logits beside the student's own loss, U those of the teacher's logits (torchtune/modules/loss/kd_losses.py, 0.6.1; the
same lines in 0.4 and 0.5), counted by tests/formulas/tune_teacher_steps.py:

                 in chunks                whole logits in fp32
                 forward    backward      forward    backward
    forward      9 + U      9             17         9
    reverse      13 + U     13            25         20
    symmetric    22 + U     22            34         29
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from preflight.formulas.layers.key_values import stream_element_bytes
from preflight.formulas.objectives.forward_alone import gathered_in_forward
from preflight.formulas.objectives.reward_models import is_laid_out, layer_at_hand
from preflight.formulas.precision import load_dtype, precision_of
from preflight.formulas.sharding import held_tensors, local_elements, num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, EVERY_STEP, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.values import NamedTuple

ARGUMENT = "kd_loss"
"""Argument of the plan that names the divergence."""


class _Divergence(NamedTuple):
    """Bytes of an entry beside the student's own loss."""

    kept: int
    """In chunks, from its forward to its backward."""
    forward: int
    """Of whole logits, the teacher's in fp32 among them."""
    backward: int


DIVERGENCES = {
    "ForwardKL": _Divergence(9, 17, 9),
    "ReverseKL": _Divergence(13, 25, 20),
    "SymmetricKL": _Divergence(22, 34, 29),
}
"""Start of the name of a loss of torchtune's."""
IN_CHUNKS = "WithChunkedOutputLoss"
LOSSES = {"chunked_ce": IN_CHUNKS, "full_logits": "Loss"}
"""Loss of a student -> end of the name of the divergence that reads logits of its form."""
LONGEST_ROW = 131_072
"""Positions of a rotary table of cosines and sines in fp32, at least (torchtune/modules/position_embeddings.py, 0.6.1)."""


def divergence_of(plan: LaunchPlan) -> _Divergence | None:
    """Return what the plan's divergence takes; None where it is none that was counted, or reads other logits."""
    name, end = str(plan.trainer_facts.value(ARGUMENT, "")), LOSSES.get(plan.loss or "")
    if end is None or not name.endswith(end) or (end == "Loss" and name.endswith(IN_CHUNKS)):
        return None
    return DIVERGENCES.get(name.removesuffix(end))


def taught_by_torchtune(
    plan: LaunchPlan, model: ModelSpec, teacher: ModelSpec
) -> tuple[MemoryTerm, ...]:
    """Return the most that a teacher and a divergence from it take; nothing where what was counted is not what runs."""
    divergence = divergence_of(plan)
    is_counted = divergence is not None and not plan.torch_compile
    is_alike = (
        model.vocab_size == teacher.vocab_size and is_laid_out(teacher) and is_laid_out(model)
    )
    if not is_counted or divergence is None or not is_alike:
        return ()
    if not plan.micro_batch_size or not plan.seq_len or plan.tensor_parallel_degree != 1:
        return ()
    return tuple(_terms(plan, model, teacher, divergence))


def _terms(
    plan: LaunchPlan, model: ModelSpec, teacher: ModelSpec, divergence: _Divergence
) -> Iterator[MemoryTerm]:
    copy = replace(plan, adapter=None, base_quantization=None, activation_checkpointing="none")
    size = dtype_bytes(load_dtype(copy, teacher))
    held = held_tensors(copy, teacher)
    elements = sum(each.count * local_elements(copy, each) for each in held)
    yield _term("parameters of a teacher", size * elements, ALWAYS | {Moment.PREPARE})
    # a checkpoint's tensor is whole on the card before it is sharded (load_from_full_model_state_dict)
    whole = size * max(each.tensor.num_params for each in held)
    yield _term("a whole tensor of a teacher", whole, frozenset({Moment.PREPARE}))
    shape = teacher.layers[0].layer
    positions = max(LONGEST_ROW, teacher.config.get("max_position_embeddings") or 0)
    table = 0 if shape is None else 4 * positions * shape.head_dim
    yield _term("positions of a teacher", table, ALWAYS | {Moment.PREPARE})
    gathered = gathered_in_forward(copy, teacher)
    yield _term("gathered of a teacher", gathered.kept, frozenset(EVERY_STEP))
    entries = num_tokens(plan) * model.vocab_size
    forward, backward = divergence.forward, divergence.backward
    if plan.loss == "chunked_ce":
        logits = precision_of(plan, model).bytes_of("logits")
        forward, backward = divergence.kept + logits, divergence.kept
    rows = plan.micro_batch_size or 0
    stream = 2 * stream_element_bytes(copy, teacher) * num_tokens(plan) * teacher.hidden_size
    passing = gathered.passing + layer_at_hand(copy, teacher, rows) + stream
    for moment, each in ((Moment.LOSS_FORWARD, forward), (Moment.LOSS_BACKWARD, backward)):
        name = f"divergence from a teacher, {moment.value}"
        yield _term(name, each * entries, frozenset({moment}), f"{entries:,} x {each}")
    # the root comes in one piece before the parameters are copied out of it
    beyond = max(0, max(passing, gathered.kept) - forward * entries)
    yield _term("forward of a teacher", beyond, frozenset({Moment.LOSS_FORWARD}))


def _term(
    name: str, num_bytes: int, moments: frozenset[Moment], formula: str | None = None
) -> MemoryTerm:
    return MemoryTerm(name, num_bytes, moments, formula or f"{num_bytes:,}", __name__)

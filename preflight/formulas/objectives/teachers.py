"""A teacher whose whole distribution a student is to match: TRL's GKD, at most.

GKDTrainer loads it whole beside the student, and gives it to DeepSpeed or to autocast, not to DDP or FSDP
(trl/experimental/gkd/gkd_trainer.py:164-184, 1.16.0; trainer/gkd_trainer.py, 0.11.4 to 0.24.0). Its loss has whole logits of
both models, divided by a temperature, their log-probabilities, those of the mixture, and both divergences (:266-320). In
units of the logits that the models return, per token and entry, counted by tests/formulas/teacher_steps.py:

                            forward     backward
    mixture, 0 < beta < 1   17          12
    beta 0, beta 1          9, 10       4, 6

What is generated before a step, by the student or by the teacher, takes its keys and values and no whole logits.
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.layers.key_values import cache_bytes, stream_element_bytes
from preflight.formulas.objectives.forward_alone import autocast_copies
from preflight.formulas.objectives.reward_models import is_laid_out, layer_at_hand
from preflight.formulas.objectives.whole_logits import whole_logits
from preflight.formulas.precision import precision_of, uses_autocast
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.values import replace

FORWARD, BACKWARD = 17, 12
"""Logits that the loss of a mixture has at once, those that the student returns among the first."""


def taught_at_most(
    plan: LaunchPlan, model: ModelSpec, teacher: ModelSpec
) -> tuple[MemoryTerm, ...]:
    """Return the most that a teacher and a loss against it take; nothing where an engine divides or casts either of them."""
    rows, length = plan.micro_batch_size, plan.seq_len
    is_counted = plan.engine in ("single", "ddp") and plan.loss in (None, "full_logits")
    if not rows or not length or not is_counted or not is_laid_out(teacher):
        return ()
    if model.has_both_stacks or not is_laid_out(model):
        return ()
    return tuple(_terms(plan, model, teacher, rows, length))


def _terms(
    plan: LaunchPlan, model: ModelSpec, teacher: ModelSpec, rows: int, length: int
) -> Iterator[MemoryTerm]:
    # as a script loads it that says nothing: in fp32, which no other way is wider than
    copy = replace(plan, adapter=None, base_quantization=None, load_dtype="fp32")
    num_params = teacher.num_params
    always = ALWAYS | {Moment.PREPARE}
    yield _term("parameters of a teacher", 4 * num_params, always, f"4 x {num_params:,}")
    size = 4 if uses_autocast(plan) else precision_of(plan, model).bytes_of("logits")
    whole = whole_logits(plan, model)
    entries = rows * length * model.vocab_size
    for moment, each in (
        (Moment.LOSS_FORWARD, FORWARD * size - whole.forward),
        (Moment.LOSS_BACKWARD, BACKWARD * size - whole.backward),
    ):
        name = f"divergence from a teacher, {moment.value}"
        yield _term(name, max(0, each) * entries, frozenset({moment}), f"{entries:,} x {each}")
    held = _passing(copy, model, teacher, rows, length)
    yield _term("forward of a teacher", held, frozenset({Moment.LOSS_FORWARD}), f"{held:,}")
    evaluated = plan.eval_micro_batch_size
    if evaluated:
        entries = evaluated * length * model.vocab_size
        held = _passing(copy, model, teacher, evaluated, length) + FORWARD * size * entries
        evaluation = frozenset({Moment.EVALUATION})
        yield _term("evaluation with a teacher", held, evaluation, f"{held:,}")


def _passing(copy: LaunchPlan, model: ModelSpec, teacher: ModelSpec, rows: int, length: int) -> int:
    """Return what a teacher's forward takes beside its logits, and the keys and values that both models hand out."""
    stream = stream_element_bytes(copy, teacher) * rows * length * teacher.hidden_size
    caches = sum(cache_bytes(copy, each, rows, length) for each in (model, teacher))
    casts = autocast_copies(copy, teacher, with_head=True)
    return layer_at_hand(copy, teacher, rows) + stream + caches + casts


def _term(name: str, num_bytes: int, moments: frozenset[Moment], formula: str) -> MemoryTerm:
    return MemoryTerm(name, num_bytes, moments, formula, __name__)

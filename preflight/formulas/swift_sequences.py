"""ms-swift's sequence parallelism: its loss, and the most that its ranks exchange beside what Ulysses is estimated with.

A model's keys have heads for as many ranks as their greatest common divisor with the ranks that share a sequence; a ring
shares the rest, and is not counted (sequence_parallel.py _init_device_mesh, 3.10 to 4.6; before, Ulysses alone). Each rank has
all of a row's ids, labels and places, and embeds its own part; its loss is taken in the dtype of the logits, whole or
`CELOSS_PARALLEL_SIZE` tokens at a time, which leave their gradient where the logits lie, and gathered token by token
(trainers/utils.py per_token_loss_func_sp, sequence_parallel/utils.py ChunkedCrossEntropyLoss, 3.6 to 4.6).
tests/formulas/swift_sequence_steps.py counts steps on gloo ranks.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from preflight.formulas.objective import is_of_swift, num_sequences
from preflight.formulas.precision import precision_of, uses_autocast
from preflight.formulas.sharding import num_tokens
from preflight.formulas.user_loop import LossBytes
from preflight.launch import LaunchPlan
from preflight.memory import EVERY_STEP, LAYER_BACKWARD, MemoryTerm, Moment, at_most
from preflight.model import ModelSpec

SOURCE = "swift/trainers/utils.py per_token_loss_func_sp (3.6.4 to 4.6.0)"
CHUNK = "CELOSS_PARALLEL_SIZE"
OF_ROW = 120
"""Bytes of a token of the whole row: ids, labels and places as int64, of each as it came, padded, rolled and kept, and its
loss with labels and places as they are gathered."""
_term = partial(at_most, source=SOURCE)


def shares_sequences(plan: LaunchPlan) -> bool:
    """Tell whether ranks of ms-swift share the sequences of a training on whole rows."""
    is_whole = plan.objective in ("sft", "pretrain")
    return is_of_swift(plan) and is_whole and plan.sequence_parallel_degree > 1


def chunk_of(plan: LaunchPlan) -> int:
    """Return of how many tokens the loss is taken at once; 0 where it is of all."""
    said = "" if plan.command is None else plan.command.env.get(CHUNK, "")
    return int(said) if said.isdecimal() else 0


def logits_of_part(plan: LaunchPlan, size: int, casts: bool) -> LossBytes:
    """Return the bytes of an entry of a rank's own logits; in chunks nothing but these is there of all of them."""
    each = 4 if casts else size
    forward, backward = (each, each) if chunk_of(plan) else (2 * each, 3 * each)
    return LossBytes(max(size + each if casts else 0, forward), backward, each, SOURCE)


def sequences_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of what nobody counted of a plan's layers; none where they are of another kind than those counted."""
    shapes = [unit.layer for unit in model.layers]
    is_shared = all(
        shape is not None
        and not shape.num_experts
        and shape.attention_kind in ("full", "sliding")
        and shape.num_kv_heads % plan.sequence_parallel_degree == 0
        for shape in shapes
    )
    is_plain = not model.has_towers and not plan.torch_compile
    if not (shapes and is_shared and is_plain and shares_sequences(plan) and plan.seq_len):
        return []
    return list(_terms(plan, model))


def _terms(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    size, tokens = precision_of(plan, model).bytes_of("compute"), num_tokens(plan)
    whole = num_sequences(plan) * (plan.seq_len or 0)
    yield _term("whole rows of ids and losses", OF_ROW * whole, EVERY_STEP, f"{whole:,} x {OF_ROW}")
    widths = max(2 * (u.layer.query_size + u.layer.kv_size) for u in model.layers if u.layer)
    formula = f"{tokens:,} x {widths:,} x {size}"
    yield _term("heads that are exchanged", tokens * widths * size, LAYER_BACKWARD, formula)
    if chunk := chunk_of(plan):
        each = 4 if uses_autocast(plan) else precision_of(plan, model).bytes_of("logits")
        entries = min(chunk, tokens) * model.vocab_size
        for name, times, moments in (
            ("a chunk of the loss, forward", 2, {Moment.LOSS_FORWARD, Moment.EVALUATION}),
            ("a chunk of the loss, backward", 4, {Moment.LOSS_BACKWARD}),
        ):
            formula = f"{entries:,} x {times} x {each}"
            yield _term(name, entries * times * each, moments, formula)

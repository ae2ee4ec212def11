"""Packed experts at most, where no count of them holds: divided by FSDP2, below adapters, or run by axolotl's scattermoe.

Of stacks that bitsandbytes packs (nn/parametrize.py, 0.49.1 to 0.50.2), beside what an estimate has of them:

    held       under FSDP2 all of them once more: axolotl has their bytes divided as any (monkeypatch/fsdp2_qlora.py
               apply_init_dtype_attrs_patch, 0.15.0 to 0.19.0), before which each rank loads them all
    copies     both stacks of a layer twice in 16 bits, four times below adapters: unpacked, deltas, sums, gradients
    rows       those that a checkpoint which is run to its end makes behind the last product

Of scattermoe (integrations/kernels/libs/scattermoe_lora, 0.18.0), whose kernels make no other tensors than their callers;
steps of these took a fifth to a half of what is here (tests/formulas/scattered_steps.py):

    copies     both stacks unpacked, twice
    adapters   in fp32 with gradients, states and buckets; a layer's six times in fp32 for dtypes, the order of a kernel,
               the experts that are at work, and gradients of each
    rows       what products, gates and sums of a token's experts have, both ways
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from preflight.formulas.adapters.adapted_experts import adapted_stacks
from preflight.formulas.adapters.adapters import adapter_targets
from preflight.formulas.adapters.unpacked_experts import (
    KEEPS_BEHIND_EXPERTS,
    is_stack,
    packs_experts,
)
from preflight.formulas.layers.checkpointing import is_reentrant
from preflight.formulas.sharding import num_tokens, packed_bytes
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, EVERY_STEP, MemoryTerm, Moment, at_most
from preflight.model import ModelSpec

_term = partial(at_most, source=__name__)

COPIES, BELOW_ADAPTERS = 2, 4
"""Copies in 16 bits of a layer's stacks."""
OF_ROW = 12
"""Bytes of a hidden and of an inner value for every expert of a token."""
SCATTERED_HIDDEN, SCATTERED_INNER = 12, 24
"""Bytes of a hidden and of an inner value that scattermoe's rows have of it."""
HELD, AT_HAND = 20, 24
"""Bytes of a parameter of an adapter: in fp32 itself, its gradient, two states and DDP's bucket; six copies of a layer's."""


def packed_experts_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of packed stacks beside those of the plan; none where it has none, or another engine divides them."""
    is_counted = plan.engine in ("single", "ddp", "fsdp2") and bool(plan.seq_len)
    return list(_packed(plan, model)) if packs_experts(plan) and is_counted else []


def scattered_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of packed stacks and adapters that scattermoe runs; none where they are not whole on a device."""
    is_counted = plan.engine in ("single", "ddp") and bool(plan.seq_len)
    if plan.adapter is None or not packs_experts(plan) or not is_counted:
        return []
    return list(scattered(plan, model, plan.adapter.rank))


def _layers(plan: LaunchPlan, model: ModelSpec) -> tuple[int, int, int]:
    """Return the most elements of both stacks of a layer, those of all, and the layers whose copies stay: of a checkpoint
    that stops before bitsandbytes' cache is cleared, all."""
    sizes = [
        (unit.count, sum(tensor.num_params for tensor in unit.tensors if is_stack(tensor)))
        for unit in model.layers
    ]
    lets_go = is_reentrant(plan) or model.model_type in KEEPS_BEHIND_EXPERTS
    is_passing = plan.activation_checkpointing == "full" and lets_go
    kept = 1 if is_passing else sum(count for count, size in sizes if size)
    return max(size for _, size in sizes), sum(count * size for count, size in sizes), kept


def _rows(plan: LaunchPlan, model: ModelSpec, hidden: int, inner: int) -> int:
    """Return so many bytes of a hidden and of an inner value for every expert that a token of a layer goes to."""
    shapes = (unit.layer for unit in model.layers if unit.layer is not None)
    return num_tokens(plan) * max(
        shape.experts_per_token * (hidden * shape.hidden_size + inner * shape.moe_intermediate_size)
        for shape in shapes
    )


def _packed(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    largest, every, kept = _layers(plan, model)
    targets = adapter_targets(plan.adapter, model) if plan.adapter is not None else ()
    times = BELOW_ADAPTERS if adapted_stacks(plan, model, targets) else COPIES
    copies, rows = kept * times * 2 * largest, _rows(plan, model, OF_ROW, OF_ROW)
    step = {*EVERY_STEP, Moment.EVALUATION}
    yield _term(
        "unpacked experts",
        copies,
        step if kept == 1 else ALWAYS,
        f"{kept} x {times} x 2 x {largest:,}",
    )
    yield _term("rows of experts", rows, step, f"{rows:,}")
    if plan.engine == "fsdp2":
        held = packed_bytes(plan, every)
        beside = {*ALWAYS, Moment.LOAD, Moment.PREPARE}
        yield _term("packed experts of every rank", held, beside, f"{every:,} / 2")


def scattered(plan: LaunchPlan, model: ModelSpec, rank: int) -> Iterator[MemoryTerm]:
    largest, _, kept = _layers(plan, model)
    copies = 2 * COPIES * largest
    rows = kept * _rows(plan, model, SCATTERED_HIDDEN, SCATTERED_INNER)
    adapters = [
        (unit.count, sum(rank * t.shape[0] * sum(t.shape[1:]) for t in unit.tensors if is_stack(t)))
        for unit in model.layers
    ]
    held = HELD * sum(count * size for count, size in adapters)
    at_hand = kept * AT_HAND * max(size for _, size in adapters)
    step = {*EVERY_STEP, Moment.EVALUATION}
    yield _term("experts that scattermoe unpacks", copies, step, f"2 x {COPIES} x {largest:,}")
    yield _term("adapters on stacks", held, {*ALWAYS, Moment.PREPARE}, f"{held:,}")
    yield _term("adapters of a layer", at_hand, step, f"{at_hand:,}")
    yield _term("rows of scattermoe", rows, step, f"{rows:,}")

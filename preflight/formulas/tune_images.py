"""The most that images take in torchtune's own modules of Llama 3.2 Vision, beside its steps on text alone.

What its recipes checkpoint is TransformerSelfAttentionLayer, of decoder, encoder and projection head (training/_activation
_checkpointing.py with the recipes' auto_wrap_policy, 0.4 to 0.7): layers that attend to images are none, and keep all that
they make for every token of text. Bytes of one of them, e those of an element, h its width, I that of its MLP, kv that of its
keys, n its heads; of one row of a tower's block, c its width; counted by tests/formulas/tune_image_steps.py:

    a token of text     (24 + 7 e) h + 4 e I + 8 n + 41, half of the 24 with norms that do not train
    a row of an image   2 e h + 8 kv + 4 heads of keys
    both                e of a mask, and on a card what pads it to whole eights and the bool that it is made from
    a block's row       (8 + 16 e) c + 4 n + 16
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from preflight.formulas.adapters.frozen_parts import attends_to_images
from preflight.formulas.layers.tune_layers import UNPACKED
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import (
    EVERY_STEP,
    LAYER_BACKWARD,
    STEP_MOMENTS,
    TOWER_MOMENTS,
    MemoryTerm,
    Moment,
    at_most,
)
from preflight.model import LayerShape, ModelSpec, Tower
from preflight.plan_parts import PROJECTOR
from preflight.units import ceil_div

_term = partial(at_most, source=__name__)

KEPT = frozenset(STEP_MOMENTS) - {Moment.EMBEDDING_BACKWARD}
NUM_ADAPTED = 6
"""Linears of a layer that may have an adapter and see tokens of text, those on rows of images among them."""


def images_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of images where their number is known and the modules are those that were counted; else none."""
    tower, vision = model.tower, plan.vision
    is_plain = plan.adapter is None or plan.adapter.kind == "lora"
    is_counted = plan.trainer == "torchtune" and plan.engine == "single" and is_plain
    if not is_counted or plan.torch_compile or plan.offload_activations != "none":
        return []
    if tower is None or not tower.is_apart or vision is None or not plan.seq_len:
        return []
    if not vision.images_per_sequence or not plan.micro_batch_size or plan.eval_micro_batch_size:
        return []
    rows = vision.images_per_sequence * (vision.image_tokens or tower.tile_tokens)
    of_tower = _of_tower(plan, model, tower, plan.micro_batch_size * rows)
    return [*of_tower, *_of_layers(plan, model, rows), *_unpacked(plan, model)]


def _unpacked(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    if plan.base_quantization is None:
        return
    largest = max(t.num_params for u in model.layers for t in u.tensors)
    formula = f"{largest:,} x {UNPACKED}"
    yield _term(
        "a matrix of the tower that is unpacked", UNPACKED * largest, TOWER_MOMENTS, formula
    )


def _of_tower(plan: LaunchPlan, model: ModelSpec, tower: Tower, rows: int) -> Iterator[MemoryTerm]:
    """Yield the terms of all that runs before the decoder, all of it trained."""
    size, width = precision_of(plan, model).bytes_of("compute"), tower.hidden_size
    num_blocks = tower.depth + tower.num_behind
    read = max(tensor.shape[-1] for u in model.units if u.role == PROJECTOR for tensor in u.tensors)
    in_block = (8 + 16 * size) * width + 4 * tower.num_heads + 16 + _of_adapters(plan, size, 4 * width)  # fmt: skip
    is_checkpointed = plan.activation_checkpointing == "full"
    of_blocks = num_blocks * (size * width if is_checkpointed else in_block)
    # the norms around the first stack in fp32, what the projector is given, and what it gives
    kept = of_blocks + 8 * width + 32 + size * (read + tower.token_size)
    passing = max(in_block, 3 * size * read) + 2 * size * tower.token_size
    pixels = 4 * ceil_div(rows * tower.tile_patches, tower.tile_tokens) * tower.patch_values
    for name, num_bytes, moments in (
        ("images", pixels, frozenset(EVERY_STEP)),
        ("activations of the vision tower", rows * kept, KEPT),
        ("vision tower, forward", rows * (kept + passing), {Moment.TOWER_FORWARD}),
        (
            "vision tower, backward",
            rows * (kept + passing + (8 + 10 * size) * width),
            {Moment.TOWER_BACKWARD},
        ),
    ):
        yield _term(name, num_bytes, moments, f"{num_bytes:,} for {rows:,} rows")


def _of_layers(plan: LaunchPlan, model: ModelSpec, rows: int) -> Iterator[MemoryTerm]:
    """Yield the terms of the layers that attend to `rows` of each sequence; nothing of them is checkpointed."""
    size = precision_of(plan, model).bytes_of("compute")
    layers = [unit for unit in model.layers if attends_to_images(unit) and unit.layer is not None]
    count = sum(unit.count for unit in layers)
    shape = next(unit.layer for unit in layers)
    assert shape is not None
    tokens, seen = num_tokens(plan), (plan.micro_batch_size or 0) * rows
    pairs = tokens * rows
    of_token = _of_token(plan, shape, size)
    of_row = 2 * size * shape.hidden_size + 8 * shape.kv_size + 4 * shape.num_kv_heads
    of_row += _of_adapters(plan, size, shape.hidden_size)
    kept = count * (tokens * of_token + seen * of_row + pairs * 2 * size) + pairs
    formula = f"{count} x ({tokens:,} x {of_token:,} + {seen:,} x {of_row:,} + {pairs:,} x {2 * size})"  # fmt: skip
    yield _term("activations of layers that attend to images", kept, KEPT, formula)
    # gradients of keys and values as they are attended to, those of rows that wait, what a mask is made from
    passing = seen * 8 * size * shape.hidden_size + pairs * (2 + size)
    formula = f"{seen:,} x 8 x {size} x {shape.hidden_size:,} + {pairs:,} x {2 + size}"
    yield _term("attention to images", passing, {Moment.FORWARD, *LAYER_BACKWARD}, formula)


def _of_token(plan: LaunchPlan, shape: LayerShape, size: int) -> int:
    norms = 24 if plan.adapter is None else 12
    plain = (norms + 7 * size) * shape.hidden_size + 4 * size * shape.intermediate_size
    adapters = _of_adapters(plan, size, 3 * shape.hidden_size + shape.intermediate_size)
    return plain + 8 * shape.num_heads + 41 + adapters


def _of_adapters(plan: LaunchPlan, size: int, width: int) -> int:
    """Return the bytes of a row that adapters keep: what is between their matrices, and of a dropout its mask and result."""
    if plan.adapter is None:
        return 0
    dropped = (size + 1) * 2 * width if plan.adapter.dropout else 0
    return size * NUM_ADAPTED * (plan.adapter.rank or 0) + dropped

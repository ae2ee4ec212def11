"""What a launch shows a vision tower, and what the tower takes: rows of patches, what it saves and needs in passing.

How many image tokens a sequence has is bounded by its length: the model refuses a batch whose image tokens are not as
many as its features (get_placeholder_mask in modeling_*.py, transformers 5.24), so what a length cuts off was never
seen. A tower's rows follow from its tokens.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from preflight.formulas.adapters.adapters import adapter_tensors
from preflight.formulas.adapters.frozen_parts import SEEING, attends_to_images
from preflight.formulas.cost_tables import FOLDER, in_words, method_of
from preflight.formulas.layers.layer_sizes import Form, bytes_of
from preflight.formulas.objective import num_sequences
from preflight.formulas.precision import Precision, gradient_element_bytes, precision_of
from preflight.formulas.sharding import held_tensors
from preflight.formulas.tower_sizes import attended_rows, key_of, sizes_of_rows
from preflight.formulas.user_loop import has_one_gradient
from preflight.launch import LaunchPlan, Origin, Vision
from preflight.model import ModelSpec, Tower
from preflight.own_tables import read_table
from preflight.plan_parts import PROJECTOR
from preflight.remembered import remembered
from preflight.units import ceil_div
from preflight.values import dataclass, replace
from preflight.versions.transformers import ASKS_EVERY_EMBEDDING, SPLITS_IMAGES

OPEN = "as many image tokens as a sequence holds, or text alone"
SEES_BOTH_WAYS = ("gemma3", "gemma4", "paligemma")
"""Families whose image tokens see each other in both directions, which SDPA needs a mask for
(create_causal_mask_mapping in modeling_gemma3.py and modeling_paligemma.py, create_masks_for_vision_model in
modeling_gemma4.py, 5.24.0)."""
MASKED = ("qwen2_vl", "qwen2_5_vl")
UNSAVED = ("still", "projector")
"""Modes of a tower that keeps nothing of its blocks: outputs of every layer are held beside the estimate of its forward."""
WIDE_ADAPTERS = " fp32 adapters"
DTYPES = {
    "full": "bf16",
    "full, bf16 under autocast": "bf16 autocast",
    "full, autocast": "fp32 autocast",
    "full, fp32": "fp32",
    "LoRA": "bf16",
    "LoRA, bf16 under autocast": "bf16 autocast",
    "LoRA, fp32 adapters": f"bf16{WIDE_ADAPTERS}",
    "LoRA, autocast": f"bf16 autocast{WIDE_ADAPTERS}",
    "LoRA, fp32": "fp32",
    "LoRA, fp32 under autocast": "fp32 autocast",
    "QLoRA": "bf16",
    "QLoRA, bf16 under autocast": "bf16 autocast",
    "QLoRA, fp32 adapters": f"bf16{WIDE_ADAPTERS}",
    "QLoRA, autocast": f"bf16 autocast{WIDE_ADAPTERS}",
    "QLoRA, prepared": "fp32",
    "QLoRA, prepared, autocast": "fp32 autocast",
}
"""Method of a decoder's layers -> dtype of the tower's weights as its file calls it. What prepare_model_for_kbit_training
leaves in fp32 is a little less than all of a tower in fp32."""


@dataclass(frozen=True)
class Seen:
    """What the towers of one micro batch see on one rank."""

    rows: int
    """Of the blocks' matrices."""
    patches: int
    tokens: int
    """What they become in the language model."""
    tiles: int


@dataclass(frozen=True)
class TowerBytes:
    """What a tower and its projector take beside parameters and gradients."""

    pixels: int
    """The batch's images, as the processor made them."""
    saved: int
    """Kept from its forward to its backward."""
    features: int
    """Kept through the forward of the language model alone."""
    unread: int
    """What a block saved whose features nobody reads: the forward's frames hold it to their end."""
    forward: int
    """At the worst moment of its own forward."""
    backward: int
    """At the worst moment of its own backward, beside gradients as they are counted; 0 where it has none."""


def with_open_images(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan with its images open where nobody said how many there are: text alone, or all that fits."""
    if not plan.is_read or not may_see(plan, model) or model.tower is None:
        return plan
    if model.tower.is_apart:
        return plan  # no length bounds them
    vision = plan.vision or Vision()
    if vision.images_per_sequence is not None:
        return plan
    origin = plan.origins.get("vision") or Origin(OPEN, assumed=True, reason=OPEN)
    settled = replace(vision, images_per_sequence=0)
    opened = replace(origin, may_be=(*origin.may_be, settled))
    return replace(plan, vision=vision).with_origin("vision", opened)


def may_see(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a launch may train on more than text."""
    return model.has_towers and not plan.script_facts.is_text_only


def without_unseen_layers(plan: LaunchPlan, model: ModelSpec) -> ModelSpec:
    """Return the model as it runs: layers that attend to images are passed over where there are none, or nobody says how
    many (modeling_mllama.py MllamaTextModel.forward, 4.48.1 to 5.24.0; torchtune's modules/transformer.py, 0.6.1)."""
    if not model.facts.get("cross_attention") or attended_rows(plan, model):
        return model
    return _without_unseen(model)


@remembered
def _without_unseen(model: ModelSpec) -> ModelSpec:
    units = tuple(
        replace(unit, layer=None) if attends_to_images(unit) else unit for unit in model.units
    )
    return replace(model, units=units)


def with_image_masks(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return the plan as its masks are: image tokens that see both ways need one, as padding does."""
    if seen_by(plan, model) is None or plan.sequence_kind == "padded":
        return plan
    assert model.tower is not None
    return replace(plan, sequence_kind="padded") if model.tower.kind in SEES_BOTH_WAYS else plan


@remembered
def seen_by(plan: LaunchPlan, model: ModelSpec) -> Seen | None:
    """Return what the towers see; None where they see nothing, or nobody knows their sizes."""
    tower, vision = model.tower, plan.vision
    if tower is None or vision is None or not plan.seq_len or not plan.micro_batch_size:
        return None
    if tower.is_apart:
        tiles = num_sequences(plan) * attended_rows(plan, model) // tower.tile_tokens
        tokens = tiles * tower.tile_tokens
        return (
            Seen(tiles * tower.tile_rows, tiles * tower.tile_patches, tokens, tiles)
            if tiles
            else None
        )
    tokens = plan.seq_len
    if vision.images_per_sequence is not None and vision.image_tokens is not None:
        tokens = vision.images_per_sequence * vision.image_tokens
    elif vision.images_per_sequence is not None:
        most = vision.images_per_sequence * tokens_of_image(tower)
        tokens = min(tokens, most) if most or not vision.images_per_sequence else tokens
    sequences = num_sequences(plan)
    if tower.patches_per_token:
        patches = sequences * tokens * tower.patches_per_token
        return Seen(patches, patches, sequences * tokens, 1) if patches else None
    fewest = tower.fewest_tokens or tower.tile_tokens
    images = tokens // fewest
    if vision.images_per_sequence is not None and vision.image_tokens is not None:
        images = vision.images_per_sequence * ceil_div(vision.image_tokens, tower.tile_tokens)
    tiles = sequences * images * tower.most_tiles
    if not tiles:
        return None
    return Seen(
        tiles * tower.tile_rows,
        tiles * tower.tile_patches,
        min(tiles * tower.tile_tokens, sequences * max(tokens, images * fewest)),
        tiles,
    )


def tokens_of_image(tower: Tower) -> int:
    """Return the tokens of one image at most where the model itself bounds them; 0 where a processor does."""
    return (
        tower.tile_tokens
        if tower.kind in ("llava", "gemma3", "paligemma") and tower.most_tiles == 1
        else 0
    )


@remembered
def mode_of(plan: LaunchPlan, model: ModelSpec) -> str:
    """Return what of a tower trains, as its file calls it."""
    if plan.adapter is not None:
        adapted = {unit.role for unit, _ in adapter_tensors(plan, model)} & {*SEEING}
        if adapted:
            return "projector" if adapted == {PROJECTOR} else "adapted"
        is_prepared = plan.base_quantization is not None
        return "passed" if _passes(plan, is_prepared) else "still"
    frozen = plan.vision.frozen if plan.vision is not None else ()
    if "tower" not in frozen:
        return "trained"
    if "projector" not in frozen:
        return "projector"
    return "passed" if _passes(plan) else "still"


def _passes(plan: LaunchPlan, is_prepared: bool = False) -> bool:
    """Tell whether gradients pass through a tower that does not train: what checkpoints, and what prepares a packed
    base, makes the output of every embedding ask for them, the tower's patches too."""
    asks = plan.activation_checkpointing != "none" or is_prepared
    return asks and ASKS_EVERY_EMBEDDING.holds_in(plan.versions)


@remembered
def tower_bytes(plan: LaunchPlan, model: ModelSpec) -> TowerBytes | None:
    """Return what a plan's towers take; None where they see nothing."""
    seen, tower = seen_by(plan, model), model.tower
    if seen is None or tower is None:
        return None
    precision = precision_of(plan, model)
    mode = mode_of(plan, model)
    forms = _forms(plan, tower, mode, precision)
    rank = plan.adapter.rank if plan.adapter is not None else 0
    sizes = sizes_of_rows(model, seen.rows, seen.patches, seen.tokens, seen.tiles, rank)

    def of(form: Form) -> int:
        return bytes_of(form, sizes)

    scores = _scores(plan, tower, seen)
    masks = _masks(plan, tower, seen)
    records = mode not in UNSAVED and plan.activation_checkpointing != "full"
    prelude, block, tail = forms["prelude"], forms["block"], forms["tail"]
    of_scores = 6 * scores + 2 * masks if records else 0
    of_block = of(block["saved"]) + of_scores
    second = forms.get("behind", block)
    of_second = of(second["saved"]) + of_scores
    first = tower.depth * of_block + tower.num_deep * of(forms["deep"])
    blocks = first + tower.num_behind * of_second
    # what the frames of the stacks hold of every block but the one that runs
    held = max(0, tower.depth + tower.num_behind - 1) * of(forms.get("held", {}))
    before, passing = of(prelude["saved"]), 10 * scores + 3 * masks
    saved = before + blocks + of(tail["saved"])
    # what the frames of the tower's forward held, and its backward does without
    gone = of({name: count for name, count in tail["saved"].items() if count < 0})
    size = precision.bytes_of("compute")
    features = min(saved, size * seen.tokens * tower.token_size)
    forward = max(
        _highest(prelude["forward"], sizes),
        before + first - of_block + _highest(block["forward"], sizes) + passing,
        before + blocks - of_second + held + _highest(second["forward"], sizes) + passing,
        before + blocks + held + _highest(tail["forward"], sizes),
    )
    if plan.script_facts.towers_keep_outputs and mode in UNSAVED:
        # with a graph, or checkpointed, these are what is saved; a residual under autocast is fp32
        element = 4 if "fp32" in (dtype := method_of(plan, precision)) or "autocast" in dtype else 2
        forward += element * (tower.depth - 1) * seen.rows * tower.hidden_size
    backward = 0
    if "backward" in tail:
        # the gradients of features and of the text's embeddings, which wait for theirs
        given = features
        if not tower.is_apart:
            given += size * num_sequences(plan) * (plan.seq_len or 0) * model.hidden_size
        in_block = _highest(block.get("backward", ()), sizes) + 12 * scores + 3 * masks
        in_second = _highest(second.get("backward", ()), sizes) + 12 * scores + 3 * masks
        every, of_tail, of_one = _gradients(plan, model, precision)
        backward = given + max(
            saved + _highest(tail["backward"], sizes) - every,
            before + gone + blocks + in_second - every + of_tail,
            before + gone + first + in_block - every + of_tail,
            before + gone + of_block + in_block - of_one,
        )
    if tower.is_apart:
        return TowerBytes(
            pixels=4 * seen.patches * tower.patch_values,
            saved=max(0, saved - features),  # layers that attend to features were traced with them
            features=0,
            unread=0 if mode != "still" else size * seen.tokens * _before_projector(model),
            forward=max(0, forward, saved + (14 if size == 2 else 17) * _attended(plan, seen)),
            backward=max(0, backward),
        )
    return TowerBytes(
        pixels=4 * seen.patches * tower.patch_values,
        saved=max(0, saved - features),
        features=features * (1 + tower.num_deep),
        unread=of_block
        if tower.kind == "llava" and mode in ("trained", "adapted", "passed")
        else 0,
        forward=max(0, forward),
        backward=max(0, backward),
    )


def _attended(plan: LaunchPlan, seen: Seen) -> int:
    """Return the elements of the mask of which text token sees which row: as int64, as 1 less itself in fp32, and in the
    model's dtype at once (modeling_mllama.py _prepare_cross_attention_mask, 5.24.0)."""
    return (plan.seq_len or 0) * seen.tokens


def _before_projector(model: ModelSpec) -> int:
    """Return the width of what a projector is given, which the outputs of a model hold on to (modeling_mllama.py
    MllamaModel.forward image_outputs, 5.24.0)."""
    return max(tensor.shape[-1] for u in model.units if u.role == PROJECTOR for tensor in u.tensors)


def _gradients(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> tuple[int, int, int]:
    """Return the gradients of the tower and its projector, of what is behind the last block, and of one block, as far as they
    are counted whole through the tower's backward and are made in it."""
    if plan.engine not in ("single", "ddp") or has_one_gradient(plan):
        return 0, 0, 0
    every = of_projector = of_block = 0
    depth = model.tower.depth if model.tower is not None else 0  # a second stack has fewer
    for held in held_tensors(plan, model):
        if not held.trains or held.unit.role not in SEEING:
            continue
        num_bytes = held.tensor.num_params * gradient_element_bytes(plan, precision, held.tensor)
        every += held.count * num_bytes
        is_last = held.unit.role == PROJECTOR and not held.unit.name.endswith("*")
        of_projector += num_bytes if is_last else 0
        is_block = held.unit.name.endswith("*") and held.unit.role != PROJECTOR
        of_block += num_bytes if is_block and held.count >= depth else 0
    return every, of_projector, of_block


def _highest(points: Sequence[Sequence[Form]], sizes: Mapping[str, int]) -> int:
    return max((sum(bytes_of(form, sizes) for form in pair) for pair in points), default=0)


def _scores(plan: LaunchPlan, tower: Tower, seen: Seen) -> int:
    """Return the scores of one block of a tower that attends eagerly; all of a sequence may be one image."""
    if plan.attention != "eager":
        return 0
    rows = tower.tile_rows or ceil_div(seen.rows, num_sequences(plan))
    return seen.rows * rows * tower.num_heads


def _masks(plan: LaunchPlan, tower: Tower, seen: Seen) -> int:
    """Return the elements of the mask of a release that gives all images to SDPA at once: a bool and a 16-bit one."""
    is_masked = tower.kind in MASKED and not SPLITS_IMAGES.holds_in(plan.versions)
    return seen.rows**2 if is_masked and not (plan.attention or "").startswith("flash") else 0


def _forms(plan: LaunchPlan, tower: Tower, mode: str, precision: Precision) -> Mapping[str, Any]:
    dtype = DTYPES[method_of(plan, precision)]
    if mode != "adapted":
        dtype = dtype.removesuffix(WIDE_ADAPTERS)
    is_flash = (plan.attention or "").startswith("flash")
    checkpointed = plan.activation_checkpointing == "full" and mode != "still"
    if mode == "projector" and not _passes(plan):
        checkpointed = False  # nothing in front of it is kept
    methods = _methods(tower.kind)
    for attention in ("flash_attention_2", "sdpa") if is_flash else ("sdpa",):
        key = key_of(mode, dtype, attention, checkpointed)
        if key in methods:
            return methods[key]
    raise KeyError(key)


@lru_cache(maxsize=8)
def _methods(kind: str) -> Mapping[str, Mapping[str, Any]]:
    table = read_table(os.path.join(FOLDER, "towers", f"{kind}.json"))
    methods = table["methods"]
    return {
        key: in_words(methods[value] if isinstance(value, str) else value, table["names"])
        for key, value in methods.items()
    }

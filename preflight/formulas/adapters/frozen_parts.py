"""Which parts of a model with a vision tower a launch leaves as they are, or never runs."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.plan_parts import DECODER, PROJECTOR, TOWER

GATE = "cross_attn_attn_gate"
"""A parameter that layers which attend to images have (modeling_mllama.py, 5.24.0)."""
SEEING = (TOWER, PROJECTOR)
AROUND = ("other", "final_norm")
"""Roles of modules around the layers: linear ones among them are adapted and packed as those in layers are."""
"""Roles of what an image runs through before the language model."""


def is_frozen(plan: LaunchPlan, unit: ModelUnit) -> bool:
    """Tell whether a launch says that the part that a unit belongs to is not trained.

    The second stack of Llama 3.2 Vision's tower is torchtune's projection head (models/llama3_2_vision/_encoder.py
    Llama3VisionProjectionHead, 0.6.1).
    """
    if plan.vision is None or not plan.vision.frozen:
        return False
    if unit.role in SEEING:
        is_second = plan.trainer == "torchtune" and ".global_transformer." in unit.name
        return (PROJECTOR if is_second else unit.role) in plan.vision.frozen
    parts = {"language_model"} if attends_to_images(unit) else {"language_model", DECODER}
    return not parts.isdisjoint(plan.vision.frozen)


def in_turns(plan: LaunchPlan, model: ModelSpec) -> tuple[ModelUnit, ...]:
    """Return a unit for each layer that trains where layers take turns: the largest that there are."""
    num_layers = plan.layers_at_a_time or 0
    largest = (
        sorted(model.layers, key=lambda unit: unit.num_params, reverse=True) if num_layers else []
    )
    return tuple(unit for unit in largest for _ in range(unit.count))[:num_layers]


def attends_to_images(unit: ModelUnit) -> bool:
    """Tell whether a unit is layers that attend to images instead of the text."""
    return any(tensor.name == GATE for tensor in unit.tensors)


def is_blind(plan: LaunchPlan, unit: ModelUnit) -> bool:
    """Tell whether a unit sees images, and there are none: it is trainable, and gets no gradient."""
    sees_none = plan.vision is None or plan.vision.images_per_sequence == 0
    return sees_none and (unit.role in SEEING or attends_to_images(unit))

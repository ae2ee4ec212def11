"""Which parts of a model with a vision tower a launch leaves as they are, or never runs."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.model import ModelUnit

PROJECTOR = "projector"
SEEING = ("tower", PROJECTOR)
AROUND = ("other", "final_norm")
"""Roles of modules around the layers: linear ones among them are adapted and packed as those in layers are."""
"""Roles of what an image runs through before the language model."""


def is_frozen(plan: LaunchPlan, unit: ModelUnit) -> bool:
    """Tell whether a launch says that the part that a unit belongs to is not trained."""
    if plan.vision is None or not plan.vision.frozen:
        return False
    part = unit.role if unit.role in SEEING else "language_model"
    return part in plan.vision.frozen


def is_blind(plan: LaunchPlan, unit: ModelUnit) -> bool:
    """Tell whether a unit sees images, and there are none: it is trainable, and gets no gradient."""
    sees_none = plan.vision is None or plan.vision.images_per_sequence == 0
    return unit.role in SEEING and sees_none

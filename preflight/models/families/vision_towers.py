"""A vision tower and its projector, laid out from the config: every parameter, and the sizes that its costs hang on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.models.families.config_view import ConfigView
from preflight.models.families.towers import clip, own_vits, qwen
from preflight.models.families.towers.parts import LayOut, Layout

SEES = ("clip_vision_model", "siglip_vision_model")
LAYOUTS: dict[str, tuple[LayOut, tuple[str, ...]]] = {
    "gemma3": (clip.gemma3, ("siglip_vision_model",)),
    "gemma4": (own_vits.gemma4, ("gemma4_vision",)),
    "idefics3": (clip.idefics3, ("idefics3", "idefics3_vision")),
    "internvl": (own_vits.internvl, ("internvl_vision",)),
    "llama4": (own_vits.llama4, ("llama4_vision_model",)),
    "llava": (clip.llava, (*SEES, "pixtral")),
    "llava_next": (clip.llava, SEES),
    "llava_onevision": (clip.llava, SEES),
    "mistral3": (own_vits.mistral3, ("pixtral",)),
    "mllama": (own_vits.mllama, ("mllama_vision_model",)),
    "paligemma": (clip.paligemma, ("siglip_vision_model",)),
    "qwen2_vl": (qwen.qwen2, ("qwen2_vl", "qwen2_vl_vision")),
    "qwen2_5_vl": (qwen.qwen2_5, ("qwen2_5_vl", "qwen2_5_vl_vision")),
    "qwen3_5": (qwen.qwen3_5, ("qwen3_5", "qwen3_5_vision")),
    "qwen3_5_moe": (qwen.qwen3_5, ("qwen3_5_moe", "qwen3_5_moe_vision")),
    "qwen3_vl": (qwen.qwen3, ("qwen3_vl", "qwen3_vl_vision")),
    "qwen3_vl_moe": (qwen.qwen3, ("qwen3_vl_moe", "qwen3_vl_moe_vision", "qwen3_vl_vision")),
    "smolvlm": (clip.idefics3, ("smolvlm", "smolvlm_vision")),
}
"""Model type -> its layout, and the `vision_config.model_type` that this is for."""


HEARING = ("gemma4",)
"""Model types whose vision tower is laid out where there is one for sound beside it."""


def hears(config: Mapping[str, Any]) -> bool:
    """Tell whether a model has a tower for sound beside the one for images."""
    return bool(config.get("audio_config"))


def lay_out_tower(top: ConfigView, text_hidden: int) -> tuple[Layout | None, ConfigView]:
    """Return the units of everything but the decoder with the tower's sizes, and the view they were read through.

    The layout is None for a tower of a kind that nobody laid out here; the sizes are where nobody traced it. Beside one of
    Gemma 4 that hears too, what it hears with is in no unit.
    """
    section = top.values.get("vision_config")
    vision = ConfigView(
        section if isinstance(section, Mapping) else {},
        f"{top.model_type}.vision",
        top.where,
        "vision_config.",
    )
    kind = vision.values.get("model_type")
    lay_out, kinds = LAYOUTS.get(top.model_type, (None, ()))
    is_alone = top.model_type in HEARING or not hears(top.values)
    if lay_out is None or not is_alone or (kind is not None and kind not in kinds):
        return None, vision
    return lay_out(top, vision, text_hidden), vision

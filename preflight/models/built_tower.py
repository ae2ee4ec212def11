"""A language model with the vision tower that a script puts in front of it, as one model."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models import describe
from preflight.values import replace


def with_built_tower(plan: LaunchPlan, model: ModelSpec) -> ModelSpec:
    """Return the model as the script of a launch builds it: transformers' LlavaModel on the layers of this one.

    What has a tower already, as a checkpoint of such a training, stays what it is.
    """
    tower = plan.script_facts.tower
    if tower is None or model.has_towers or not model.is_decoder_lm:
        return model
    config = {
        "model_type": "llava",
        "text_config": model.config,
        "vision_config": tower.config,
        "vision_feature_layer": tower.feature_layer,
    }
    whole = describe(config, model.name, model.source)
    return replace(
        whole,
        layer_classes=model.layer_classes,
        like=model.like,
        stored_dtypes=model.stored_dtypes,
        source=f"{model.source}, and {tower.flag.value} in front of it",
    )

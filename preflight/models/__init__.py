"""What the parameters of each model family are, from its config alone: one file per group of families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.values import replace


def describe(
    config: Mapping[str, Any], name: str, source: str, num_params: int | None = None
) -> ModelSpec:
    """Describe a model from its config.json.

    `num_params` is an exact published count, needed where the family has no layout.
    Raises BadInput for a family nobody described here and for values that no model can have.
    """
    from preflight.models.families.description import describe_config

    if not isinstance(config, Mapping):
        raise BadInput.one(f"the config of {name} must be a mapping, not {config!r}", source)
    return describe_config(config, name, source, num_params)


def lays_out(config: Mapping[str, Any]) -> bool:
    """Tell whether a config alone gives every parameter; if not, `describe` needs a count beside it."""
    from preflight.models.families.groups import is_laid_out

    return is_laid_out(config)


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


__all__ = ["describe", "lays_out", "with_built_tower"]

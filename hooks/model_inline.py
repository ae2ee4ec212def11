"""Models given in the plan itself: `model_config`, an inline config.json."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models import describe


@hookimpl
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe the model from the plan's own config."""
    if plan.model_config is None:
        return None
    origin = plan.origins.get("model_config")
    where = origin.where if origin else "model_config"
    return describe(plan.model_config, plan.model or "the inline model", where)

"""Models in the local Hugging Face cache: a plain read of files that were downloaded before, no network."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models.folder import describe_folder
from preflight.models.hub_cache import HUB_ID, find_snapshot


@hookimpl
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe a model from the snapshot that a load by its hub id would use."""
    if plan.model is None or not HUB_ID.fullmatch(plan.model):
        return None
    snapshot = find_snapshot(plan.model)
    if snapshot is None:
        return None
    origin = plan.origins.get("model")
    return describe_folder(snapshot, plan.model, origin.where if origin else "")

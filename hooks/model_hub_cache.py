"""Models in the local Hugging Face cache: a plain read of files that were downloaded before, no network."""

from __future__ import annotations

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models.folder import describe_folder
from preflight.models.hub_cache import HUB_ID, find_snapshot
from preflight.models.registry import find_model


@hookimpl
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe a model from the snapshot that a load by its hub id would use."""
    if plan.model is None or not HUB_ID.fullmatch(plan.model):
        return None
    snapshot = find_snapshot(plan.model)
    if snapshot is None:
        return None
    origin = plan.origins.get("model")
    where = origin.where if origin else ""
    return describe_folder(snapshot, plan.model, where, lambda: _known_count(plan.model))


def _known_count(model: str | None) -> int | None:
    entry = find_model(model or "")
    return None if entry is None else entry.num_params

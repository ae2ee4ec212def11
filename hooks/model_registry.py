"""Models of the shipped registry, and the error for a model that nobody knows; asked last."""

from __future__ import annotations

import os

from preflight.errors import ModelNotKnown
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models import describe
from preflight.models.registry import find_model, similar_models


@hookimpl
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe a model by its hub id; refuse one that is not known anywhere."""
    if plan.model is None:
        return None
    entry = find_model(plan.model)
    if entry is None:
        raise unknown_model(plan)
    source = "the registry" if entry.id == plan.model else f"the registry, as {entry.id}"
    return describe(entry.config, plan.model, source, entry.num_params)


def unknown_model(plan: LaunchPlan) -> ModelNotKnown:
    """Return the error that says what was looked for, and what to give instead."""
    assert plan.model is not None
    origin = plan.origins.get("model")
    near = similar_models(plan.model)
    meant = f"did you mean {' or '.join(near)}? otherwise " if near else ""
    fix = (
        f"{meant}give `--set model_config=FILE`, a folder with its config.json, "
        "or download it first (preflight reads the local Hugging Face cache and asks no network)"
    )
    looks_like_path = plan.model.startswith((".", "/", "~")) or plan.model.count(os.sep) > 1
    what = "there is no folder or file" if looks_like_path else "not known here: model"
    return ModelNotKnown.one(f"{what} {plan.model}", origin.where if origin else "", fix)

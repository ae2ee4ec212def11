"""Models on disk: a folder with a config.json, or such a file."""

from __future__ import annotations

import os

from preflight.errors import BadInput
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models.folder import describe_file, describe_folder, is_path
from preflight.models.not_known import not_known


@hookimpl
def preflight_describe_model(plan: LaunchPlan) -> ModelSpec | None:
    """Describe the model at a path, seen from the folder the launch starts in."""
    if plan.model is None:
        return None
    path = plan.resolve(plan.model)
    origin = plan.origins.get("model")
    where = origin.where if origin else ""
    if os.path.isdir(path):
        return describe_folder(path, plan.model, where)
    if os.path.isfile(path):
        if not path.endswith(".json"):
            raise BadInput.one(
                f"{plan.model} is a file, but not a config.json", where, "give its folder"
            )
        return describe_file(path, plan.model)
    if not is_path(plan.model):
        return None
    from preflight.models.trained_here import named_elsewhere  # most models have a name

    if named_elsewhere(plan.model, plan.cwd) is None:
        raise not_known(
            f"there is no folder or file {plan.model}",
            plan.model,
            where,
            f"it is looked for in {os.path.abspath(plan.cwd)}"
            if not os.path.isabs(os.path.expanduser(plan.model))
            else "check the path, or give `--set model_config=FILE`",
        )
    return None

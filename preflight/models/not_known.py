"""What is said of a model whose config is not to be had here: what was looked for, and what to give instead."""

from __future__ import annotations

from preflight.errors import ModelNotKnown
from preflight.models.registry import models_like

CONFIG_ELSEWHERE = (
    "add `--online` to download its config.json, or give `--set model_config=FILE` or a folder with one "
    "(preflight reads the local Hugging Face cache, and asks no network unless told to; "
    "`preflight models` lists what it knows)"
)


def not_known(message: str, model: str, where: str, fix: str = CONFIG_ELSEWHERE) -> ModelNotKnown:
    """Return the error of a model, with one that its name says it was made from before the rest of the fix."""
    near = models_like(model)
    like = f"if it has the shapes of {near[0]}, `--set model={near[0]}`; otherwise " if near else ""
    return ModelNotKnown.one(message, where, like + fix)

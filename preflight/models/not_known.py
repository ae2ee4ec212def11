"""What is said of a model whose config is not to be had here: what was looked for, and what to give instead."""

from __future__ import annotations

from functools import lru_cache

from preflight.errors import ModelNotKnown
from preflight.models.registry import all_models, models_like

A_SLIP = 0.93
"""What a name and the one that was meant share: a letter or two of a name's thirty."""

CONFIG_ELSEWHERE = (
    "add `--online` to download its config.json, or give `--set model_config=FILE` or a folder with one "
    "(preflight reads the local Hugging Face cache, and asks no network unless told to; "
    "`preflight models` lists what it knows)"
)


def not_known(message: str, model: str, where: str, fix: str = CONFIG_ELSEWHERE) -> ModelNotKnown:
    """Return the error of a model, with one that its name says it was made from before the rest of the fix."""
    near = models_like(model)
    like = f"if it has the shapes of {near[0]}, `--set model={near[0]}`; otherwise " if near else ""
    meant = "" if near else _meant(model)
    return ModelNotKnown.one(
        message, where, like + (f"did you mean {meant}? {fix}" if meant else fix)
    )


@lru_cache(maxsize=64)
def _meant(model: str) -> str:
    """Return the known name of which this one is a slip of the keys; empty where none is that near."""
    import difflib

    near = difflib.get_close_matches(model, [entry.id for entry in all_models()], 1, A_SLIP)
    return near[0] if near else ""

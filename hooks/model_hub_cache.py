"""Models in the local Hugging Face cache: a plain read of files that were downloaded before, no network."""

from __future__ import annotations

import os
import re

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.model_folder import ADAPTER_CONFIG, CONFIG, describe_folder

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


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


def cache_folder() -> str:
    """Return the hub cache as huggingface_hub finds it (constants.py, 1.0)."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return os.path.expanduser(os.environ[name])
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    home = os.environ.get("HF_HOME") or os.path.join(cache, "huggingface")
    return os.path.join(os.path.expanduser(home), "hub")


def find_snapshot(model: str) -> str | None:
    """Return the folder of the `main` snapshot that holds a config; None where none was downloaded."""
    repository = os.path.join(cache_folder(), "models--" + model.replace("/", "--"))
    try:
        with open(os.path.join(repository, "refs", "main"), encoding="utf-8") as file:
            commit = file.read().strip()
    except OSError:
        return None
    snapshot = os.path.join(repository, "snapshots", commit)
    # A tokenizer may have been downloaded alone.
    if any(os.path.isfile(os.path.join(snapshot, name)) for name in (CONFIG, ADAPTER_CONFIG)):
        return snapshot
    return None

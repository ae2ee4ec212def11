"""The checkout of torchtune that a launch starts in, which `pip install -e .` runs: its recipes, configs and builders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from preflight.launch import LaunchCommand
from preflight.launchers.torchtune.table import builders

MOST_FOLDERS = 6
"""Above the folder of the launch, in which a checkout may begin."""
MODELS = "torchtune.models."


def in_checkout(command: LaunchCommand, path: str) -> str | None:
    """Return a file of the checkout, from the folder of the launch; None where that is in none, or has no such file."""
    above = ""
    for _ in range(MOST_FOLDERS):
        if command.exists(os.path.join(above, "torchtune", "__init__.py")):
            found = os.path.join(above, path)
            return found if command.exists(found) else None
        above = os.path.join(above, "..")
    return None


def builder_of(command: LaunchCommand, name: str, checkpoint_dir: str) -> Mapping[str, Any] | None:
    """Return a builder as the checkout has it, else as the table has it; None where neither knows it.

    `name` is a `_component_`, and `checkpoint_dir` is what the config loads: its last part names the model of a builder
    whose sizes are not written out.
    """
    known = builders().get(name)
    package, _, short = name.removeprefix(MODELS).partition(".")
    path = in_checkout(command, f"torchtune/models/{package}/_model_builders.py")
    if path is None or not name.startswith(MODELS) or "." in short:
        return known
    from preflight.launchers.torchtune.builders import builders_in, model_of

    try:
        own = builders_in(command.read_text(path), f"{MODELS}{package}.", builders()).get(name)
    except (OSError, ValueError, SyntaxError):
        return known
    if own is None:
        return known
    folder = checkpoint_dir.rstrip("/").rsplit("/", 1)[-1]
    model = (known or own).get("model") or model_of(name, own.get("sizes", {}), folder)
    return {**own, "model": model} if model else own

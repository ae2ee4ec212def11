"""TRL's own accelerate configs, by the names that `trl sft --accelerate_config zero2` takes.

They are read from the TRL that is installed here, else from the checkout of TRL that the launch starts in, else from
the table of the newest release that was read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from preflight.launch import LaunchCommand
from preflight.own_tables import table_beside

FOLDER = os.path.join("trl", "accelerate_configs")


def with_profile(command: LaunchCommand, name: str) -> tuple[LaunchCommand, str] | None:
    """Return the path of a config of TRL's own with the command that can read it; None where there is none."""
    folder = _installed_folder()
    if folder is not None:
        path = os.path.join(folder, f"{name}.yaml")
        return (command, path) if os.path.isfile(path) else None
    path = os.path.join(FOLDER, f"{name}.yaml")
    if command.exists(path):
        return command, path
    settings = _table()["profiles"].get(name)
    if settings is None:
        return None
    path = os.path.join(f"TRL {_table()['version']}", f"{name}.yaml")
    overlay = {**command.overlay, command.resolve(path): _text(settings)}
    return replace(command, overlay=overlay), path


def profile_names() -> tuple[str, ...]:
    """Return the names of TRL's own configs."""
    folder = _installed_folder()
    if folder is None:
        return tuple(_table()["profiles"])
    return tuple(sorted(file[:-5] for file in os.listdir(folder) if file.endswith(".yaml")))


def _installed_folder() -> str | None:
    for folder in sys.path:
        path = os.path.join(folder, FOLDER)
        if os.path.isdir(path):
            return path
    return None


def _text(settings: Mapping[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(dict(settings), sort_keys=False)
    return text


_table = partial(table_beside, __file__, "profiles.json")

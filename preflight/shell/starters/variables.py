"""Variables of an environment, each with the place where it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.bool_words import is_true
from preflight.setting import Setting

PARALLELISM_SIZES = {
    f"PARALLELISM_CONFIG_{name.upper()}": name
    for name in ("dp_replicate_size", "dp_shard_size", "tp_size", "cp_size", "sp_size")
}
"""Variable -> the size of ParallelismConfig that it stands for (accelerate/parallelism_config.py, 1.15)."""


def is_on(env: Mapping[str, Setting], name: str) -> bool:
    """Tell whether an ACCELERATE_USE_* variable switches its mode on: accelerate takes the word `true` only."""
    return name in env and is_true(env[name].value)


def text(env: Mapping[str, Setting], name: str, default: Any = None) -> Any:
    """Return a variable's text, or the default."""
    return env[name].value if name in env else default

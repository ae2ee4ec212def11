"""What Trainer's low-rank optimizers project, as `optim_args` and `optim_target_modules` say it."""

from __future__ import annotations

from typing import Any

from preflight.plan_choices import PROJECTIONS, is_pattern
from preflight.plan_parts import LowRank

RANDOM = "random"
"""APOLLO's projection, unless `proj` is svd."""


def targets_of(value: Any) -> tuple[str, ...] | str | None:
    """Return the modules that an argument names: one word is a whole name's, several are parts of names."""
    if isinstance(value, str):
        words = value.split()
        return (words[0] if len(words) == 1 else tuple(words)) if words else None
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, str) for each in value):
        return tuple(value)
    return None


def low_rank_of(
    optimizer: str, options: Any, targets: tuple[str, ...] | str | None
) -> LowRank | None:
    """Return what an optimizer projects; None where no modules are named, or an option cannot be read.

    Source: _get_galore_optimizer, _get_apollo_optimizer and _parse_optim_args of transformers/trainer_optimizer.py, 5.24.0.
    """
    said = _options(options)
    if targets is None or said is None:
        return None
    names = (targets,) if isinstance(targets, str) else targets
    rank, projection = said.get("rank", str(LowRank.rank)), said.get("proj_type", "std")
    if not rank.isdecimal() or int(rank) < 1 or projection not in PROJECTIONS:
        return None
    if not all(map(is_pattern, names)):
        return None
    is_random = optimizer.startswith("apollo") and said.get("proj", RANDOM) == RANDOM
    return LowRank(int(rank), projection, is_random, targets)


def _options(value: Any) -> dict[str, str] | None:
    if not value:
        return {}
    if isinstance(value, dict):
        return {str(key): str(each) for key, each in value.items()}
    pairs = [pair.partition("=") for pair in str(value).replace(" ", "").split(",")]
    return {name: said for name, _, said in pairs} if all(sign for _, sign, _ in pairs) else None

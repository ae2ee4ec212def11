"""What the parameters of each model family are, from its config alone: one file per group of families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.model import ModelSpec


def describe(
    config: Mapping[str, Any], name: str, source: str, num_params: int | None = None
) -> ModelSpec:
    """Describe a model from its config.json.

    `num_params` is an exact published count, needed where the family has no layout.
    Raises BadInput for a family nobody described here and for values that no model can have.
    """
    from preflight.models.families.description import describe_config

    if not isinstance(config, Mapping):
        raise BadInput.one(f"the config of {name} must be a mapping, not {config!r}", source)
    return describe_config(config, name, source, num_params)


def lays_out(config: Mapping[str, Any]) -> bool:
    """Tell whether a config alone gives every parameter; if not, `describe` needs a count beside it."""
    from preflight.models.families.groups import is_laid_out

    return is_laid_out(config)


__all__ = ["describe", "lays_out"]

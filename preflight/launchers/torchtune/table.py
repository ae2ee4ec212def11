"""What torchtune ships: recipes with the keys they read, built-in configs, model builders; derived from its wheel."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

from preflight.launchers.torchtune.config import COMPONENT
from preflight.own_tables import table_beside

TABLE_VERSION = "0.6.1"
"""The release that preflight/launchers/torchtune/table.json is derived from (preflight/derive/tables/torchtune_tables.py)."""

OF_SAME_ROWS = ("packed", "train_on_input")
"""Arguments of a dataset that leave its rows as long as they are."""


_table = partial(table_beside, __file__, "table.json")


def recipes() -> Mapping[str, Any]:
    """Return training recipe -> whether it is distributed, the keys it reads, its configs."""
    found: Mapping[str, Any] = _table()["recipes"]
    return found


def builders() -> Mapping[str, Any]:
    """Return model builder -> its arguments and the registry's model of the same sizes."""
    found: Mapping[str, Any] = _table()["builders"]
    return found


def config_path(name: str, recipe: str) -> str | None:
    """Return the file of a built-in config below recipes/configs: the recipe's own, else the first of any recipe's."""
    own = recipes().get(recipe, {}).get("configs", {})
    if name in own:
        return str(own[name])
    for other in recipes().values():
        if name in other["configs"]:
            return str(other["configs"][name])
    return None


def config_names(recipe: str) -> tuple[str, ...]:
    """Return the names of a recipe's own configs, or of all where the recipe is not torchtune's."""
    if recipe in recipes():
        return tuple(recipes()[recipe]["configs"])
    return tuple(name for other in recipes().values() for name in other["configs"])


def config_values(path: str) -> Mapping[str, Any]:
    """Return what the table keeps of a built-in config."""
    values: Mapping[str, Any] = _table()["configs"][path]
    return values


@lru_cache(maxsize=8)
def longest_row_of(dataset: str) -> tuple[int, str] | None:
    """Return the most tokens that a row of a dataset has, and the built-in config that tells; None where none does.

    The config trains on whole rows of it, from the first to the last, a model that refuses longer ones. It counts them by
    the vocabulary of its model, 32,000 words of Llama 2's in the shortest: a larger one takes fewer for the same text.
    """
    told = [
        (longest, path)
        for path, values in _table()["configs"].items()
        if _takes_whole_rows(values, dataset)
        and (longest := builders().get(values["model"][COMPONENT], {}).get("longest_row"))
    ]
    return min(told, default=None)


def _takes_whole_rows(values: Mapping[str, Any], dataset: str) -> bool:
    """Tell whether a config trains on all of a dataset's own rows, and cuts none."""
    section, tokenizer = values.get("dataset"), values.get("tokenizer")
    if not isinstance(section, dict) or not isinstance(tokenizer, dict):
        return False
    is_whole = section.keys() <= {COMPONENT, *OF_SAME_ROWS} and not section.get("packed")
    is_cut = tokenizer.get("max_seq_len") or values.get("max_steps_per_epoch")
    return section.get(COMPONENT) == dataset and is_whole and not is_cut and "model" in values


def installed_config(path: str) -> str | None:
    """Return the file of a built-in config of the torchtune that is installed here."""
    for folder in sys.path:
        file = os.path.join(folder, "recipes", "configs", path)
        if os.path.isfile(file) and os.path.isdir(os.path.join(folder, "torchtune")):
            return file
    return None

"""What transformers fills in where a config is silent, and the tables of types that were laid out by a command.

Sizes, spellings and layer classes of every family are in library_defaults.json, which `python -m preflight.derive
library_defaults` writes; a type's own table is in tables/*.json, as table_layout.py explains them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from preflight.own_tables import beside, read_table, table_in
from preflight.values import dataclass

PATH = beside(__file__, "library_defaults.json")
FOLDER = beside(__file__, "tables")


@dataclass(frozen=True)
class LibraryDefaults:
    """The tables of one release of transformers, each by model_type."""

    transformers: str
    """The release."""
    config_defaults: Mapping[str, Mapping[str, Any]]
    """What the config class sets where the file has no such key; of a vision tower as `NAME.vision`."""
    spellings: Mapping[str, Mapping[str, tuple[str, ...]]]
    """Key of the config -> the other names that the class takes for it."""
    layer_classes: Mapping[str, tuple[str, ...]]
    """`_no_split_modules` of the model's class: what FSDP wraps unless it is told otherwise."""
    text_types: Mapping[str, str]
    """Vision-language family -> the model_type of its decoder where the file names none."""


@lru_cache(maxsize=1)
def library_defaults() -> LibraryDefaults:
    """Return the tables; they are read once, when the first model is described."""
    return tables_of(read_table(PATH))


def tables_of(values: Mapping[str, Any]) -> LibraryDefaults:
    """Return the tables of a file's values, in which lists are tuples."""
    spellings = {
        name: {key: tuple(others) for key, others in row.items()}
        for name, row in values["spellings"].items()
    }
    classes = {name: tuple(row) for name, row in values["layer_classes"].items()}
    return LibraryDefaults(**{**values, "spellings": spellings, "layer_classes": classes})


@lru_cache(maxsize=16)
def family_table(model_type: str) -> Mapping[str, Any] | None:
    """Return the table of a type; None where there is none."""
    return table_in(FOLDER, model_type)

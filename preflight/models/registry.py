"""The shipped model registry: configs and exact parameter counts of models by hub id, read one line at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from preflight.values import dataclass


@dataclass(frozen=True)
class RegistryEntry:
    """One model of the registry."""

    id: str
    aliases: tuple[str, ...]
    """Other hub ids with the same shapes."""
    num_params: int
    """Of the model class that transformers builds from `config`, tied tensors once."""
    checked: str
    """exact: equals the published count; rounded: agrees with the published name; else how far it was checked."""
    is_gated: bool
    source: str
    """Where the sizes were read, in public."""
    config: Mapping[str, Any]


def find_model(name: str) -> RegistryEntry | None:
    """Return the entry of a hub id or alias, in any case; None where there is none."""
    wanted = name.strip().strip("/").lower()
    for line in _lines():
        identifier, aliases, _ = line.split("\t", 2)
        if wanted == identifier.lower() or wanted in aliases.lower().split(";"):
            return _entry(line)
    return None


def similar_models(name: str, most: int = 3) -> tuple[str, ...]:
    """Return ids that a person may have meant: the same last part first, then the nearest spellings."""
    import difflib

    wanted = name.strip().strip("/").lower()
    last = wanted.rsplit("/", 1)[-1]
    known = {identifier.lower(): identifier for identifier in all_names()}
    same_last = [known[key] for key in known if key.rsplit("/", 1)[-1] == last]
    near = [known[key] for key in difflib.get_close_matches(wanted, known, n=most, cutoff=0.7)]
    return tuple(dict.fromkeys([*same_last, *near]))[:most]


def all_names() -> Iterator[str]:
    """Yield every id, each followed by its aliases."""
    for line in _lines():
        identifier, aliases, _ = line.split("\t", 2)
        yield identifier
        yield from filter(None, aliases.split(";"))


def all_models() -> Iterator[RegistryEntry]:
    """Yield every entry, in the order of the file."""
    for line in _lines():
        yield _entry(line)


@lru_cache(maxsize=1)
def _lines() -> tuple[str, ...]:
    folder = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(folder, "models.tsv"), encoding="utf-8") as file:
        return tuple(line for line in file.read().splitlines() if not line.startswith("#"))


def _entry(line: str) -> RegistryEntry:
    identifier, aliases, num_params, checked, access, source, config = line.split("\t")
    return RegistryEntry(
        identifier,
        tuple(filter(None, aliases.split(";"))),
        int(num_params),
        checked,
        access == "gated",
        source,
        json.loads(config),
    )

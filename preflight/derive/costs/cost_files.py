"""The text of preflight/formulas/costs/*.json: forms by method, named sizes by their place in a list; read in words, and written."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from preflight.formulas.cost_tables import CHECKPOINTED, METHODS, family_costs, in_words


def known_costs(name: str, adapted: str = "") -> dict[str, Any] | None:
    """Return what a family's file says, in words; None where there is none."""
    costs = family_costs(name, adapted)
    if costs is None:
        return None

    def said(forms: Mapping[str, Any]) -> dict[str, Any]:
        whole = {
            key: forms[value] if isinstance(value, str) else value for key, value in forms.items()
        }
        return {
            key: {point: in_words(form, costs["names"]) for point, form in value.items()}
            for key, value in whole.items()
        }

    kinds = {kind: said(forms) for kind, forms in costs["kinds"].items()}
    return {"facts": costs["facts"], "kinds": kinds, "shared": said(costs["shared"])}


def together(known: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return both entries in one, in the order of the methods."""
    keys = [method + suffix for method in METHODS for suffix in ("", CHECKPOINTED)]

    def ordered(*forms: Mapping[str, Any]) -> dict[str, Any]:
        both = {key: value for one in forms for key, value in one.items()}
        return {key: both[key] for key in keys if key in both}

    kinds = {
        kind: ordered(known["kinds"].get(kind, {}), new["kinds"].get(kind, {}))
        for kind in {**new["kinds"], **known["kinds"]}
    }
    shared = ordered(known["shared"], new["shared"])
    return {"facts": {**known["facts"], **new.get("facts", {})}, "kinds": kinds, "shared": shared}


def both_ways(methods: Collection[str]) -> set[str]:
    """Return the keys of some methods: with checkpointing and without."""
    return {method + suffix for method in methods for suffix in ("", CHECKPOINTED)}


def without(costs: Mapping[str, Any], dropped: Collection[str]) -> dict[str, Any]:
    """Return an entry without some methods' keys, and without kinds of layers that had no other."""

    def kept(forms: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in forms.items() if key not in dropped}

    kinds = {kind: kept(forms) for kind, forms in costs["kinds"].items()}
    return {
        **costs,
        "kinds": {kind: forms for kind, forms in kinds.items() if forms},
        "shared": kept(costs["shared"]),
    }


def rendered(entry: Mapping[str, Any]) -> str:
    """Return the text of one file: one line per kind and method, named sizes by their place in `names`."""
    names = sorted(set(names_in(entry["kinds"])) | set(names_in(entry["shared"])))
    places = {name: index for index, name in enumerate(names)}
    parts = [f'"facts": {json.dumps(entry["facts"], sort_keys=True)}']
    parts.append(f'"names": {json.dumps(names)}')
    kinds = [
        f"{json.dumps(name)}: {_by_line(forms, places)}" for name, forms in entry["kinds"].items()
    ]
    parts.append('"kinds": {' + ",\n".join(kinds) + "}")
    parts.append(f'"shared": {_by_line(entry["shared"], places)}')
    return "{" + ",\n".join(parts) + "}\n"


def _is_form(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_size(name) for name in value)


def _is_size(name: str) -> bool:
    return name in _NAMES or "*" in name or ":" in name


_NAMES = frozenset({"C", "B", "E", "d", "LL", "V", "hV", "hP", "TL", "TQ", "TT"})
"""Sizes of layers and of towers that are no product, nor of one rank."""


def names_in(value: Any) -> Iterator[str]:
    """Yield the names of sizes in forms, each as often as it stands there."""
    if _is_form(value):
        yield from value
    else:
        for item in value.values() if isinstance(value, Mapping) else value:
            if not isinstance(item, (int, str)):
                yield from names_in(item)


def numbered(value: Any, places: Mapping[str, int]) -> Any:
    """Return forms as lists: place, count, place, count."""
    if _is_form(value):
        return [n for name in sorted(value) for n in (places[name], value[name])]
    if isinstance(value, Mapping):
        return {name: numbered(item, places) for name, item in value.items()}
    return value if isinstance(value, int) else [numbered(item, places) for item in value]


def _by_line(forms: Mapping[str, Any], places: Mapping[str, int]) -> str:
    """Return one line per method; a method that is like an earlier one has its name instead."""
    lines: dict[str, str] = {}
    known: dict[str, str] = {}
    for name, value in forms.items():
        text = json.dumps(numbered(value, places), sort_keys=True, separators=(",", ":"))
        lines[name] = json.dumps(known[text]) if text in known else text
        known.setdefault(text, name)
    return "{\n" + ",\n".join(f" {json.dumps(k)}: {text}" for k, text in lines.items()) + "}"

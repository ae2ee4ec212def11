"""Configs that a type's table does not speak of: other classes, words and numbers than those that it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import ModelNotKnown
from preflight.models.families.config_view import ConfigView, place_of_key
from preflight.models.families.layer_rules import Places, by_layer

HEADLESS = ("Model", "ForSequenceClassification")
"""Ends of the names of classes that have no language model's head, which are known by what they lack."""


def _unknown(message: str, where: str) -> ModelNotKnown:
    return ModelNotKnown.one(message, where, "`preflight trace` runs the model itself")


def raise_if_other(table: Mapping[str, Any], view: ConfigView) -> None:
    """Refuse another class than the table's, and values that none of the models had that it was made from."""
    named = view.values.get("architectures")
    first = str(named[0]) if isinstance(named, list) and named else table["class"]
    classes = {table["class"], *(entry["class"] for entry in table.get("heads", {}).values())}
    if first not in classes and ("heads" in table or not str(first).endswith(HEADLESS)):
        raise _unknown(
            f"the parameters of {first} are not known here, those of {table['class']} are",
            place_of_key(view.where, "architectures"),
        )
    for name, value in table["fixed"].items():
        given = view.values.get(name, value)
        if given != value:
            raise _unknown(
                f"{view.section}{name} of {view.model_type} is {given!r}, and its parameters are known for {value!r} alone",
                place_of_key(view.where, name),
            )
    for name, other in table.get("equal", {}).items():
        if view.get(name) != view.get(other):
            raise _unknown(
                f"{view.section}{name} of {view.model_type} is {view.get(name)}, and its parameters are known where it is its {other}",
                place_of_key(view.where, name),
            )
    for name, values in table.get("never", {}).items():
        if view.get(name) in values:
            raise _unknown(
                f"the parameters of {view.model_type} with {view.section}{name} = {view.get(name)} are not known here",
                place_of_key(view.where, name),
            )
    for name, like_null in table.get("unset", {}).items():
        if "window" in name or _is_overruled(
            table, view, name
        ):  # a window is a mask, which costs know
            continue
        if view.get(name) and view.get(name) not in like_null:
            raise _unknown(
                f"{view.section}{name} of {view.model_type} is {view.get(name)!r}, and its layers are known where it is null alone",
                place_of_key(view.where, name),
            )
    for name in table["given"]:
        if by_layer(view, name, table.get("patterns", {})) is None:
            raise _unknown(
                f"{view.section}{name} of {view.model_type} is not given, and its parameters are known with it alone",
                place_of_key(view.where, name),
            )


def _is_overruled(table: Mapping[str, Any], view: ConfigView, name: str) -> bool:
    """Tell whether a field names places of layers, and the config has the lists that say of every layer what it is."""
    value = view.get(name)
    is_of_places = isinstance(value, (list, tuple)) and all(isinstance(v, int) for v in value)
    return is_of_places and all(view.get(other) is not None for other in table["lists"])


def raise_if_other_heads(table: Mapping[str, Any], view: ConfigView, head_dim: int) -> None:
    """Refuse heads of another size than the hidden size gives, where a table was made without that key."""
    given = view.values.get("head_dim")
    rows = [row for kind in table["kinds"] for row in kind["tensors"]]
    if given is None or any("head_dim" in form for row in rows for form in row[2]):
        return
    if head_dim and given != head_dim:
        raise _unknown(
            f"the parameters of {view.model_type} are not known here for {view.section}head_dim {given!r}",
            place_of_key(view.where, "head_dim"),
        )


def raise_if_not_met(table: Mapping[str, Any], view: ConfigView, places: Places) -> None:
    """Refuse layers that differ in more ways at once than any layer did that the table was made from."""
    met = set(table.get("met", ()))
    for place, own in enumerate(places.met(table["places"]) if met else ()):
        if own not in met:
            raise _unknown(
                f"layer {place} of this {view.model_type} is of a kind that is not known here",
                view.where,
            )

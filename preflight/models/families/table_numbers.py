"""The numbers that a table's expressions and rules read of a config: as given, by default, or as the class works them out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import ModelNotKnown
from preflight.models.families.config_view import ConfigView, place_of_key
from preflight.models.families.expressions import evaluate, same_number
from preflight.models.families.layer_rules import (
    NUM_SHARING,
    SHARING,
    Places,
    by_layer,
    sharing_modes,
    values_by,
)


class Numbers:
    """What a table's expressions and rules read of a config."""

    def __init__(self, table: Mapping[str, Any], view: ConfigView) -> None:
        self._table = table
        self._view = view
        self._known: dict[str, int] = {}

    def number(self, name: str) -> int:
        """Return a config field's number: as it is given, by default, or as the class works it out."""
        if name not in self._known:
            self._known[name] = self._number(name)
        return self._known[name]

    def _number(self, name: str) -> int:
        value = same_number(_labels(self._view) if name == "num_labels" else self._view.get(name))
        if isinstance(value, (int, float)):
            if not self._view.is_given(name):
                self._view.assumed.append(name)
            return int(value)
        absent = self._table["absent"].get(name)
        if absent is not None:
            return evaluate(absent, self.number)
        raise ModelNotKnown.one(
            f"{self._view.section}{name} is missing, and {self._view.model_type} has no default that is known here",
            place_of_key(self._view.where, name),
            "give it a number",
        )

    def plain(self, depth: int) -> Any:
        """Return what reads switches and lists: a list that the config has not is made by its rule."""
        made: dict[str, Any] = {}

        def read(name: str) -> Any:
            if name == SHARING:
                return sharing_modes(read("layer_types"), self._view.get(NUM_SHARING), depth)
            value = by_layer(self._view, name, self._table.get("patterns", {}))
            rule = self._table["lists"].get(name)
            if value is None and rule is not None:
                if name not in made:
                    made[name] = values_by(rule, Places(self.number, self._view.get, depth))
                return made[name]
            return value

        return read


def _labels(view: ConfigView) -> Any:
    """Return the labels of a classifier, two where a config names none (configuration_utils.py, 5.24.0)."""
    named, given = view.get("id2label"), view.get("num_labels")
    return given or (len(named) if isinstance(named, Mapping) and named else 2)

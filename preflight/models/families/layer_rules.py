"""Which layers of a model are of which kind, as a list of conditions: the first that holds decides.

A condition is a list of atoms that all hold, each a list itself:

    ["in", FIELD, VALUE]     the config's list FIELD has VALUE at the layer's place
    ["has", FIELD]           the layer's place is in the config's list FIELD
    ["from", EXPRESSION]     the place is at least so much
    ["every", EXPRESSION, REMAINDER, SHIFT]  (place + SHIFT) % EXPRESSION is REMAINDER
    ["is", FIELD, VALUE]     a switch of the config
    ["more", FIELD, NUMBER]  a number of the config is larger
    ["not", ATOM]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from preflight.models.families.config_view import ConfigView
from preflight.models.families.expressions import evaluate

Atom = Sequence[Any]
Condition = Sequence[Atom]


class Places:
    """What conditions ask of a config: whole numbers, lists, switches."""

    def __init__(
        self, number: Callable[[str], int], plain: Callable[[str], Any], num_layers: int
    ) -> None:
        self.number = number
        self.plain = plain
        self.num_layers = num_layers

    def holds(self, condition: Condition, place: int) -> bool:
        """Tell whether all atoms of a condition hold at a layer's place."""
        return all(self._atom(atom, place) for atom in condition)

    def met(self, rule: Sequence[Sequence[Any]]) -> list[str]:
        """Return of every layer which of a rule's atoms hold, as a text of 0 and 1."""
        atoms = [atom for condition, _ in rule for atom in condition]
        return [
            "".join("01"[self._atom(atom, place)] for atom in atoms)
            for place in range(self.num_layers)
        ]

    def _atom(self, atom: Atom, place: int) -> bool:
        kind, what, *more = atom
        if kind == "not":
            return not self._atom(what, place)
        if kind == "in":
            values = self.plain(what)
            is_there = isinstance(values, (list, tuple)) and place < len(values)
            return is_there and values[place] == more[0]
        if kind == "has":
            values = self.plain(what)
            return isinstance(values, (list, tuple)) and place in values
        if kind == "from":
            return place >= self._size(what)
        if kind == "is":
            return bool(self.plain(what) == more[0])
        if kind == "more":
            return self._size(what) > int(more[0])
        remainder, shift = more
        period = max(1, self._size(what))
        return (place + self._size(shift)) % period == self._size(remainder) % period

    def _size(self, expression: Any) -> int:
        if isinstance(expression, int):
            return expression
        return evaluate(expression, self.number)


def values_by(rule: Sequence[Sequence[Any]], places: Places) -> list[Any]:
    """Return the value of every layer under a rule: pairs of a condition and a value."""
    found = []
    for place in range(places.num_layers):
        value = next((value for condition, value in rule if places.holds(condition, place)), None)
        found.append(value)
    return found


def named_fields(rule: Sequence[Sequence[Any]]) -> Mapping[str, None]:
    """Return the config fields that a rule's atoms read."""
    from preflight.models.families.expressions import fields_of

    found: dict[str, None] = {}

    def look(atom: Atom) -> None:
        kind, what, *more = atom
        if kind == "not":
            look(what)
        elif kind in ("in", "has", "is"):
            found[what] = None
        else:
            for each in (what, *more):
                if isinstance(each, str):
                    found.update(dict.fromkeys(fields_of(each)))

    for condition, _ in rule:
        for atom in condition:
            look(atom)
    return found


OLD_KINDS = {
    "mamba": "linear_attention",
    "attention": "full_attention",
    "deepseek_sparse_attention": "indexed_attention",
}
"""What kinds of layers were called before transformers 5 (configuration_utils.py, remap_legacy_layer_types, 5.24.0)."""


KINDS_BY_LAYER = ("layer_types", "layers_block_type")
SHARING, NUM_SHARING = "kv_sharing_modes", "num_kv_shared_layers"
"""A list by layer that no config has and its class works out, and the field that it is worked out of."""


def sharing_modes(kinds: Any, num_sharing: Any, depth: int) -> list[str | None]:
    """Return which layers attend to keys that another layer made (`reuse`), and which layer of each kind hands its own on
    (`store`): the last before those that do not make any (kv_sharing_modes in configuration_gemma3n.py and
    configuration_gemma4.py, transformers 5.24.0).

    A list of nothing where no layer reuses keys: what a layer hands on then is read by nobody.
    """
    first = depth - num_sharing if isinstance(num_sharing, int) else depth
    if not 0 < first < depth or not isinstance(kinds, (list, tuple)) or len(kinds) < depth:
        return [None] * depth
    makers = {kind: place for place, kind in enumerate(kinds[:first])}
    return [
        "reuse" if place >= first else "store" if makers[kinds[place]] == place else None
        for place in range(depth)
    ]


def by_layer(view: ConfigView, name: str, patterns: Mapping[str, Any]) -> Any:
    """Return a config's value; a list of kinds in today's words, where the config has it as a string of letters too."""
    value = view.get(name)
    pattern, words = patterns.get(name, ("", {}))
    letters = view.get(pattern) if value is None and pattern else None
    if isinstance(letters, str):
        return [words.get(letter) for letter in letters]
    if isinstance(value, (list, tuple)) and name in KINDS_BY_LAYER:
        return [OLD_KINDS.get(item, item) if isinstance(item, str) else item for item in value]
    return value

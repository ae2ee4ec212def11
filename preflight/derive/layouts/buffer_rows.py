"""Tables that a type's modules register beside their parameters, with the expressions of their sides: masks, positions."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import Any

from preflight.derive.layouts.changed_models import NotLaidOut, Seen
from preflight.derive.layouts.common_rows import Solver, label_of
from preflight.derive.layouts.observed_layouts import Observed


def buffer_rows(
    seen: Seen, solver: Solver, labels: Sequence[Hashable], kinds: Sequence[Hashable]
) -> list[list[Any]]:
    """Return [kind of the layers that have it or null, what an element is, sides] of every table that counts."""
    base = seen.base[0]
    found = []
    for name, (shape, element) in base.buffers.items():
        index = layer_of(base, name)
        if index is not None and labels.index(labels[index]) != index:
            continue  # that of another layer of its kind
        own = [
            (model, model.buffers[name][0])
            for model in solver.models
            if name in model.buffers
            and (index is None or label_of(model, index) == label_of(base, index))
        ]
        if len({len(sides) for _, sides in own}) != 1:
            raise NotLaidOut(f"the table {name} has another rank in another size")
        sides = [
            solver.form([(model, sides[axis]) for model, sides in own])
            for axis in range(len(shape))
        ]
        kind = None if index is None else kinds.index(labels[index])
        found.append([kind, element, sides])
    return found


def layer_of(model: Observed, name: str) -> int | None:
    """Return the place of the layer that a tensor is in; None for one around the layers."""
    rest = name.removeprefix(f"{model.prefix}.")
    first = rest.partition(".")[0]
    return int(first) if rest != name and first.isdigit() else None


def elements_of(model: Observed) -> dict[str, int]:
    """Return the elements of all of a model's tables by what an element is."""
    found: dict[str, int] = {}
    for shape, element in model.buffers.values():
        found[element] = found.get(element, 0) + prod(shape)
    return found

"""What models of a type have in common: its tensors as rows with expressions, and rules of which layer is of which kind."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from preflight.derive.layouts.changed_models import (
    EXPERT_COUNTS,
    NO_LAYOUT,
    NUM_SOLVED,
    SIZE_PER_LAYER,
    NotLaidOut,
    Seen,
)
from preflight.derive.layouts.dimension_forms import Dimensions
from preflight.derive.layouts.kind_rules import OF_PLACES, Labelled, NoRule, rule_of
from preflight.derive.layouts.observed_layouts import Observed, Tensor
from preflight.derive.layouts.type_configs import DEPTHS
from preflight.models.families.expressions import same_number
from preflight.models.families.layer_rules import SHARING, named_fields


def label_of(observed: Observed, index: int) -> Hashable:
    """Return what a layer is, by the names of its tensors and what its config says of it."""
    names = tuple(observed.layers[index])
    lists = tuple((name, _plain(values[index])) for name, values in _by_layer(observed).items())
    return names, lists, _windowed(observed.marks[index])


def _windowed(mark: Any) -> Hashable:
    """Return the switches of a layer's modules that tell kinds apart."""
    return mark[0], tuple(
        (path, name, value)
        for path, name, value in mark[1]
        if "window" in name or "sliding" in name or "type" in name or "rope" in name
    )


def _by_layer(observed: Observed) -> dict[str, list[Any]]:
    depth = len(observed.layers)
    return {
        name: list(value)
        for name, value in observed.values.items()
        if isinstance(value, (list, tuple))
        and len(value) == depth
        and not name.startswith("_")
        and not all(
            isinstance(item, int) and not isinstance(item, bool) and item > 1 for item in value
        )
        and all(isinstance(item, (str, int, float, type(None))) for item in value)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float):  # a share of something, which a layer has or has not
        return value != 0
    return value if isinstance(value, (str, bool, int)) or value is None else str(value)


class Solver:
    """Expressions for shapes, from all models that have the tensor."""

    def __init__(self, seen: Seen, matters: Mapping[str, tuple[Observed, ...]]) -> None:
        self.seen = seen
        sized = [
            models[0]
            for text, models in matters.items()
            if isinstance(seen.changes[text][1], (int, float))
            and not isinstance(seen.changes[text][1], bool)
            and not is_none_of_experts(*seen.changes[text])
        ]
        self.models = [*seen.base[:NUM_SOLVED], *sized]
        self.dimensions: dict[tuple[int, ...], Dimensions] = {}

    def form(self, found: Sequence[tuple[Observed, int]]) -> str:
        key = tuple(id(model) for model, _ in found)
        if key not in self.dimensions:
            self.dimensions[key] = Dimensions(numbers_of([model for model, _ in found]))
        vector = tuple(number for _, number in found)
        form = self.dimensions[key].form_of(vector) or self._of_most(found)
        if form is None:
            raise NotLaidOut(f"no expression gives {vector}")
        return form

    def _of_most(self, found: Sequence[tuple[Observed, int]]) -> str | None:
        """Return what gives all but one of the models with a field changed: that field has one value then."""
        own = {id(model) for model in self.seen.base}
        for model, _ in found:
            rest = [pair for pair in found if pair[0] is not model]
            numbers = numbers_of([each for each, _ in rest])
            if id(model) not in own and numbers:
                form = Dimensions(numbers).form_of(tuple(number for _, number in rest))
                if form is not None:
                    return form
        return None

    def shape(self, found: Sequence[tuple[Observed, Tensor]]) -> list[str]:
        if len({len(tensor.shape) for _, tensor in found}) != 1:
            raise NotLaidOut("a tensor has another rank in another size")
        return [
            self.form([(model, tensor.shape[axis]) for model, tensor in found])
            for axis in range(len(found[0][1].shape))
        ]


def numbers_of(models: Sequence[Observed]) -> dict[str, tuple[int, ...]]:
    found = {}
    for name in models[0].values:
        if name.startswith("_") or any(part in name for part in NO_LAYOUT):
            continue
        is_of_places = any(part in name for part in (*OF_PLACES, "window"))
        if is_of_places and name not in DEPTHS and "per_layer" not in name:
            continue
        values = [same_number(model.values.get(name)) for model in models]
        if any(
            is_whole(model.config.get(name)) and model.config[name] != value
            for model, value in zip(models, values, strict=True)
        ):
            continue  # the class puts another number in its place
        if all(is_whole(value) for value in values):
            numbers = tuple(int(value) for value in values if value is not None)
            if max(numbers) > 1 or len(set(numbers)) > 1:
                found[name] = numbers
    return found


def is_switch(seen: Seen, text: str, models: Sequence[Observed]) -> bool:
    """Tell whether a change turns something on or off: a bool, null, or no expert where there were some."""
    field, value = seen.changes[text]
    if isinstance(value, bool) or value is None or (value == 0 and field == SIZE_PER_LAYER):
        return True
    names = [[set(layer) for layer in model.layers] for model in (models[0], seen.base[0])]
    return is_none_of_experts(field, value) and names[0] != names[1]


def is_none_of_experts(field: str, value: Any) -> bool:
    """Tell whether a change leaves no expert, or one that may be a plain layer then."""
    return field in EXPERT_COUNTS and not isinstance(value, bool) and value in (0, 1)


def is_whole(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and value == int(value) and value >= 0


def units(
    seen: Seen, matters: Mapping[str, tuple[Observed, ...]], solver: Solver
) -> list[dict[str, Any]]:
    """Return the modules around the layers, those before them first."""
    base = seen.base[0]
    owners: dict[str, Mapping[str, Tensor]] = dict(base.outside)
    for models in matters.values():
        for owner, own in models[0].outside.items():
            owners.setdefault(owner, own)
    found = []
    for owner, own in owners.items():
        role = "other"
        if owner == base.head:
            role = "lm_head"
        elif owner == base.embedding or all(t.kind == "embedding" for t in own.values()):
            role = "embedding"
        elif owner in base.behind:  # its gradients are made before those of the layers
            role = "final_norm"
        tensors = _tensors(
            seen,
            matters,
            solver,
            lambda model, owner=owner: model.outside.get(owner, {}),
            comes_and_goes=True,
        )
        found.append({"name": owner, "role": role, "tensors": tensors})
    return found


def kind_tensors(
    seen: Seen,
    matters: Mapping[str, tuple[Observed, ...]],
    solver: Solver,
    index: int,
    label: Hashable,
) -> list[list[Any]]:
    mark = label[1:] if isinstance(label, tuple) else ()

    def tensors_of(model: Observed) -> Mapping[str, Tensor]:
        if index < len(model.layers):
            own = label_of(model, index)
            if isinstance(own, tuple) and own[1:] == mark:
                return model.layers[index]
        return {}

    return _tensors(seen, matters, solver, tensors_of)


def _tensors(
    seen: Seen,
    matters: Mapping[str, tuple[Observed, ...]],
    solver: Solver,
    tensors_of: Any,
    comes_and_goes: bool = False,
) -> list[list[Any]]:
    """Return rows of name, kind, shape, flags and what they depend on.

    A layer without the tensor may be one of another kind; a module around the layers is gone, or new.
    """
    base = tensors_of(seen.base[0])
    found = []
    for name, tensor in base.items():
        own = [(m, tensors_of(m)[name]) for m in solver.models if name in tensors_of(m)]
        condition = []
        for text, models in matters.items():
            there = tensors_of(models[0])
            is_other = (there or comes_and_goes) and name not in there
            is_bool = isinstance(seen.changes[text][1], bool)
            has_other = is_bool and _has_other(there, name, tensor)
            if is_switch(seen, text, models) and (is_other or has_other):
                condition.append(_of_switch(*seen.changes[text], negated=True))
        found.append(_row(name, tensor, solver.shape(own), condition))
    for text, models in matters.items():
        field, value = seen.changes[text]
        if not is_switch(seen, text, models):
            continue
        for name, tensor in tensors_of(models[0]).items():
            is_new = name not in base and (base or comes_and_goes)
            if is_new or (isinstance(value, bool) and _has_other(base, name, tensor)):
                own = [(m, tensors_of(m)[name]) for m in models if name in tensors_of(m)]
                if len(own) < 3:
                    continue
                condition = [_of_switch(field, value, negated=False)]
                found.append(_row(name, tensor, solver.shape(own), condition))
    return found


def _has_other(tensors: Mapping[str, Tensor], name: str, tensor: Tensor) -> bool:
    return name in tensors and tensors[name].shape != tensor.shape


def _of_switch(field: str, value: Any, negated: bool) -> list[Any]:
    atom = ["is", field, value]
    if isinstance(value, bool):
        return ["is", field, not value] if negated else atom
    return ["not", atom] if negated else atom


def _row(name: str, tensor: Tensor, shape: list[str], condition: list[Any]) -> list[Any]:
    flags = ("fp32" if tensor.stays_fp32 else "") + (" subclass" if tensor.is_of_subclass else "")
    row: list[Any] = [name, tensor.kind, shape]
    if flags or condition:
        row.append(flags.strip())
    if condition:
        row.append(condition)
    return row


def places_of(
    seen: Seen, matters: Mapping[str, tuple[Observed, ...]], kinds: Mapping[Any, int]
) -> tuple[dict[str, Any], list[Any], list[str]]:
    """Return the rules of lists by layer that a config may leave out, the rule of kinds, and what layers it met."""
    models = [*seen.base, *(models[0] for models in matters.values())]
    by_mark: dict[Any, list[tuple[set[str], int]]] = {}
    for kind, number in kinds.items():
        by_mark.setdefault(kind[1:], []).append((set(kind[0]), number))
    labelled = []
    for model in models:
        numbers = []
        for index in range(len(model.layers)):
            label: Any = label_of(model, index)
            near = by_mark.get(label[1:])
            if near is None:
                break
            own: set[str] = set(label[0])
            numbers.append(min(near, key=lambda pair: len(pair[0] ^ own))[1])
        else:
            labelled.append(Labelled(_asked(model), tuple(numbers)))
    rule: list[list[Any]]
    try:
        rule = rule_of(labelled) if len(kinds) > 1 else [[[], 0]]
    except NoRule as error:
        raise NotLaidOut(str(error)) from error
    lists: dict[str, Any] = {}
    for name in (n for n in named_fields(rule) if n != SHARING):
        values = [m for m in models if name not in m.config or m.config[name] is None]
        told = []
        for model in values:
            own_list: Any = model.values.get(name)
            if isinstance(own_list, (list, tuple)) and len(own_list) == len(model.layers):
                told.append(Labelled(_asked(model), tuple(_plain(v) for v in own_list)))
        if told and any("in" in str(atom) for condition, _ in rule for atom in condition):
            other = [
                Labelled(
                    {k: v for k, v in one.values.items() if not isinstance(v, (list, tuple))},
                    one.labels,
                )
                for one in told
            ]
            try:
                lists[name] = (
                    rule_of(other, without=name)
                    if len({label for one in other for label in one.labels}) > 1
                    else [[[], other[0].labels[0]]]
                )
            except NoRule:
                lists[name] = None
    met = {text for one in labelled for text in one.places.met(rule)}
    return lists, rule, sorted(met)


def _asked(model: Observed) -> dict[str, Any]:
    return {name: value for name, value in model.values.items() if not name.startswith("_")}

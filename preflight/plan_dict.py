"""A plan from the plain values of a file: the `plan:` of a plan file or of a measured run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from preflight.errors import BadInput, Problem
from preflight.launch import NESTED, PLAN_FIELDS, LaunchPlan, Origin
from preflight.near_names import nearest_fix
from preflight.reading import Problems, Reading


def plan_from_dict(
    values: Mapping[str, Any], where: str = "", places: Mapping[str, str] | None = None
) -> LaunchPlan:
    """Build a plan from the `plan:` mapping of a plan or measured-run file.

    `places` says of a field where it is written, where that is known better than `where`.
    Raises BadInput naming every unknown field and impossible value at once.
    """
    places = places or {}
    problems = Problems()
    known: dict[str, Any] = {}
    for name, value in values.items():
        place = places.get(name, where)
        if name not in PLAN_FIELDS:
            problems.append(
                Problem(
                    f"there is no plan field {name!r}", place, nearest_fix(str(name), PLAN_FIELDS)
                )
            )
        elif name in NESTED:
            known[name] = problems.take(_nested_from_dict(name, value, place))
        elif isinstance(value, list):
            known[name] = tuple(value)
        elif value is None and _default(name) is not None:
            continue  # null = not stated: the field's own default
        else:
            known[name] = value
    origins = {name: Origin(places.get(name, where) or "the plan file") for name in known}
    plan = LaunchPlan(**known, origins=origins)
    problems.extend(plan.problems())
    if problems:
        raise BadInput(*problems)
    return plan


def _default(name: str) -> Any:
    return next((f.default for f in fields(LaunchPlan) if f.name == name), None)


_INFORMATIVE_KEYS = {"adapter": ("num_trainable_params",)}
"""Keys that published run files carry beside ours; read by nobody."""


def _nested_from_dict(name: str, value: Any, where: str) -> Reading[Any]:
    if value is None:
        return Reading(None)
    if not isinstance(value, Mapping):
        wrong = f"{name} must be a mapping or null, not {value!r}"
        return Reading(None, (Problem(wrong, where),))
    cls = NESTED[name]
    names = tuple(f.name for f in fields(cls))
    problems = (
        Problem(f"there is no plan field {name}.{key}", where, nearest_fix(str(key), names))
        for key in value
        if key not in names and key not in _INFORMATIVE_KEYS.get(name, ())
    )
    kept = {
        key: tuple(item) if isinstance(item, list) else item
        for key, item in value.items()
        if key in names
    }
    return Reading(cls(**kept), tuple(problems))

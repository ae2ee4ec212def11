"""docs/reference-plan.md and docs/schema/plan.json, made from the plan's dataclasses."""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from typing import Any

from preflight import launch
from preflight.derive.target import Files, Say
from preflight.launch import (
    ASKED,
    CHOICES,
    NESTED,
    PLAN_FIELDS,
    SCHEMES,
    EngineFacts,
    LaunchPlan,
    RankFacts,
    ScriptFacts,
    TrainerFacts,
)
from preflight.plan_types import KINDS, NESTED_DTYPES
from preflight.units import DTYPE_BYTES

HEAD = """\
# Plan fields

A launch as it was understood: what every reader fills, every memory rule reads and every remedy edits.
This page is made from the dataclasses of `preflight.launch` by `python -m preflight.derive plan`.

The names are those of `--set FIELD=VALUE`, of the `plan:` of a plan file, of `[plan]` in `preflight.toml`, and of the `plan` in JSON; `adapter.rank` reaches into a nested one.
A field without a value is null, and so are fields whose default here is null: not known, or the rule that is named.
`None` in a meaning is null in a file.
"""
TABLE = ["| field | type | values | default | meaning |", "|---|---|---|---|---|"]
ABOUT: dict[type[Any], str] = {
    LaunchPlan: "## Of the launch",
    **{kind: f"## Of `{name}`" for name, kind in NESTED.items()},
}
FACTS_HEAD = """\
## For readers and checks

What a reader learned of a launch that no field above holds, as frozen values of `preflight.launch`.
A reader of a plugin fills what it knows, and the built-in checks ask it; no file and no JSON has them.
A `Setting` is a value, and its `Place` says where that is written (`preflight.setting`).
`plan.command` is the command that was read, `plan.documents` the launch's files by role, and `plan.source` belongs to the reader's own writer.
"""
FACTS: dict[str, type[Any]] = {
    "rank_facts": RankFacts,
    "script_facts": ScriptFacts,
    "trainer_facts": TrainerFacts,
    "engine_facts": EngineFacts,
}
JSON_TYPES = {
    "None": "null",
    "bool": "boolean",
    "int": "integer",
    "float": "number",
    "str": "string",
}


def plan_page() -> str:
    """Return the whole page."""
    return "\n".join([*_plan_lines(), *_facts_lines()]).rstrip() + "\n"


def _facts_lines() -> Iterator[str]:
    """Yield the part on what readers fill for checks."""
    yield FACTS_HEAD
    for name, kind in FACTS.items():
        meanings = docstrings_of(kind)
        yield from (f"### `plan.{name}`: {kind.__name__}", "", inspect.getdoc(kind) or "", "")
        yield from ("| field | type | meaning |", "|---|---|---|")
        for field in fields(kind):
            shown = str(field.type).replace("|", "\\|")
            yield f"| `{field.name}` | `{shown}` | {meanings[field.name]} |"
        yield ""


def _plan_lines() -> list[str]:
    """Return the part on what a person may say and a report shows."""
    lines = [HEAD]
    for kind, title in ABOUT.items():
        meanings = docstrings_of(kind)
        lines += [title, "", *TABLE]
        for field in told_fields(kind):
            cells = (
                f"`{field.name}`",
                _types_of(field),
                ", ".join(f"`{_said(value)}`" for value in choices_of(kind, field)),
                _default_of(field),
                meanings.get(field.name, ""),
            )
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return lines


def plan_schema() -> dict[str, Any]:
    """Return the JSON Schema of a plan in JSON: every field always there; under `given` in a record, those with a value."""
    whole = _object_of(LaunchPlan)
    names = {name: {"$ref": f"#/properties/{name}"} for name in whole["properties"]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The plan of a launch: docs/reference-plan.md",
        **whole,
        "$defs": {"given": {"type": "object", "properties": names, "additionalProperties": False}},
    }


def told_fields(kind: type[Any]) -> Iterator[Field[Any]]:
    """Yield the fields that a plan on disk has."""
    for field in fields(kind):
        if kind is not LaunchPlan or (field.name in PLAN_FIELDS and field.name not in ASKED):
            yield field


def docstrings_of(kind: type[Any]) -> dict[str, str]:
    """Return field -> the text that stands under it in the class."""
    (tree,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(before, ast.AnnAssign) or not isinstance(before.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[before.target.id] = " ".join(str(after.value.value).split())
    return found


def choices_of(kind: type[Any], field: Field[Any]) -> tuple[object, ...]:
    """Return the values that a field is held to, where it has a list of them."""
    if kind is LaunchPlan:
        return CHOICES.get(field.name, ())
    if field.name == "scheme":
        return SCHEMES
    return tuple(DTYPE_BYTES) if field.name in NESTED_DTYPES else ()


def _types_of(field: Field[Any]) -> str:
    names = [name for name in str(field.type).split(" | ") if name != "None"]
    said = [KINDS[name][0].split(" up to ")[0] if name in KINDS else "a mapping" for name in names]
    return " or ".join(said)


def _default_of(field: Field[Any]) -> str:
    if field.default is MISSING:
        return "`{}`"
    return f"`{_said(field.default)}`"


def _said(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _object_of(kind: type[Any]) -> dict[str, Any]:
    properties = {field.name: _schema_of(kind, field) for field in told_fields(kind)}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _schema_of(kind: type[Any], field: Field[Any]) -> dict[str, Any]:
    names = str(field.type).split(" | ")
    meaning = docstrings_of(kind).get(field.name)
    described: dict[str, Any] = {"description": meaning} if meaning else {}
    choices = choices_of(kind, field)
    if choices:
        null = [None] if "None" in names else []
        return {**described, "enum": [*choices, *null]}
    nested = [getattr(launch, name) for name in names if name not in KINDS]
    if nested:
        return {**described, "anyOf": [{"type": "null"}, *map(_object_of, nested)]}
    kinds = [_json_of(name) for name in names]
    if len(kinds) == 1:
        return {**described, **kinds[0]}
    if all(set(one) == {"type"} for one in kinds):
        return {**described, "type": [one["type"] for one in kinds]}
    return {**described, "anyOf": kinds}


def _json_of(name: str) -> dict[str, Any]:
    if name == "tuple[str, ...]":
        return {"type": "array", "items": {"type": "string"}}
    if name == "Mapping[str, str]":
        return {"type": "object", "additionalProperties": {"type": "string"}}
    if name == "Mapping[str, Any]":
        return {"type": "object"}
    return {"type": JSON_TYPES[name]}


def files(say: Say) -> Files:
    """Yield the page and the schema."""
    yield "docs/reference-plan.md", plan_page()
    yield "docs/schema/plan.json", json.dumps(plan_schema(), indent=2) + "\n"

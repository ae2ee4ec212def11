"""`LaunchPlan.source` is between a reader and its own writer: nobody else looks inside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
READERS_AND_WRITERS = ("launchers", "writers", "engines", "trainers", "scripts")
OTHERS = [
    path
    for folder in ("preflight", "hooks", "templates", "examples")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not {*READERS_AND_WRITERS, "hooks", "templates"} & {*path.relative_to(ROOT).parts[1:2]}
    and path != ROOT / "preflight" / "launch.py"
]
PLANS = ("plan", "before", "after", "again")


def is_plan(node: ast.expr) -> bool:
    """Tell whether an expression is called as plans are: `plan`, `before`, `report.plan`, `launch.plan`."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in PLANS or name.endswith("_plan")


def uses_of_source(text: str) -> list[int]:
    """Return the lines that read `source` of a plan, ask for it by name, or import what readers put there."""
    lines = []
    for node in ast.walk(ast.parse(text)):
        is_read = isinstance(node, ast.Attribute) and node.attr == "source" and is_plan(node.value)
        is_asked = (
            isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "getattr"
            and is_plan(node.args[0])
            and getattr(node.args[1], "value", "") == "source"
        )
        is_import = isinstance(node, ast.ImportFrom) and node.module == "preflight.writers.source"
        if is_read or is_asked or is_import:
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize(
    "text",
    [
        "facts = plan.source.facts",
        "getattr(report.plan.source, 'facts', {})",
        "getattr(plan, 'source')",
        "known = before.source is None",
        "from preflight.writers.source import LaunchSource",
    ],
)
def test_a_side_door_would_be_seen(text):
    assert uses_of_source(text)


def test_nobody_but_readers_and_writers_looks_into_the_source_of_a_plan():
    uses = {str(path.relative_to(ROOT)): uses_of_source(path.read_text()) for path in OTHERS}

    assert len(uses) > 300
    assert {path: lines for path, lines in uses.items() if lines} == {}

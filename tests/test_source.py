"""`LaunchPlan.source` is between a reader and its own writer: nobody else looks inside."""

from __future__ import annotations

import ast

import pytest
from own_sources import ROOT, own_trees

READERS_AND_WRITERS = tuple(
    f"preflight/{name}"
    for name in ("launchers/", "writers/", "engines/", "trainers/", "scripts/", "launch.py")
)
COPIED_OUT = [*(ROOT / "templates").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]
PLANS = ("plan", "before", "after", "again")


def is_plan(node: ast.expr) -> bool:
    """Tell whether an expression is called as plans are: `plan`, `before`, `report.plan`, `launch.plan`."""
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in PLANS or name.endswith("_plan")


def uses_of_source(tree: ast.AST) -> list[int]:
    """Return the lines that read `source` of a plan, ask for it by name, or import what readers put there."""
    lines = []
    for node in ast.walk(tree):
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
    assert uses_of_source(ast.parse(text))


def test_nobody_but_readers_and_writers_looks_into_the_source_of_a_plan():
    others = [
        (path, tree) for path, tree in own_trees() if not path.startswith(READERS_AND_WRITERS)
    ]
    others += [(str(path), ast.parse(path.read_text())) for path in COPIED_OUT]

    assert {path: lines for path, tree in others if (lines := uses_of_source(tree))} == {}

"""Imports point backwards along the flow, and the core imports nothing heavy."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "preflight").rglob("*.py"))
HOOKS = sorted((ROOT / "hooks").glob("*.py"))

FLOW = [
    ("units", "errors"),
    ("launch", "model", "device"),
    ("memory", "remedy", "rewrite", "finding"),
    ("verdict", "buckets"),
    ("report", "hookspecs", "policy", "repository", "worksheet"),
    ("plugins",),
    ("search", "lattice", "headroom", "advise", "pipeline", "sizing", "what_if", "fitting"),
    ("validate", "formula_table", "loop_table", "scan", "slurm", "new_launch"),
    ("render",),
    ("api",),
    ("guarded_launch", "guard_doors", "embedded", "pytest_plugin"),
    ("commands",),
    ("cli", "__main__"),
]
"""Layer by layer; a module imports its own layer and the ones before it."""

RULES = 2
"""Layer of every module not named above: rules about plan and model that hooks share."""

FOUNDATION = {"datafile": 0, "whole_file": 0, "values": 0, "remembered": 0, "plan_types": 0, "": 0}
"""Beside the flow: reading a file of our own, writing one, how a dataclass is made, what was answered before, and the package itself."""


def layer_of(module: str) -> int:
    """Return the layer of `preflight.memory`, `preflight.render.page`, ..."""
    first = module.removeprefix("preflight").lstrip(".").partition(".")[0]
    for layer, names in enumerate(FLOW):
        if first in names:
            return layer
    return FOUNDATION.get(first, RULES)


def imported(tree: ast.Module, with_functions: bool = True) -> Iterator[tuple[str, int]]:
    """Yield the modules that a file imports, without those for the type checker only."""
    waiting: list[ast.stmt] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            if node.module == "preflight":
                for alias in node.names:
                    yield f"preflight.{alias.name}", node.lineno
            else:
                yield node.module or "", node.lineno
        elif (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING") or (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not with_functions
        ):
            continue
        for field in ("body", "orelse", "finalbody", "handlers"):
            waiting.extend(getattr(node, field, []))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


@pytest.mark.parametrize("path", CORE, ids=module_of)
def test_a_module_imports_only_what_comes_before_it(path):
    own = layer_of(module_of(path))
    late = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for name, line in imported(tree_of(path))
        if name.startswith("preflight")
        and name != "preflight.__version__"
        # explain and hooks show what the built-ins are; nobody else reaches into them
        and (layer_of(name) > own or name.startswith("preflight.hooks."))
    ]

    assert not late


@pytest.mark.parametrize("path", HOOKS, ids=lambda path: path.stem)
def test_a_hook_imports_values_from_preflight_and_no_other_hook(path):
    others = [
        f"{path.name}:{line} imports {name}"
        for name, line in imported(tree_of(path))
        if name.startswith(("preflight.hooks.", "hooks"))
        or (name.startswith("preflight") and layer_of(name) >= layer_of("preflight.plugins"))
    ]

    assert not others


@pytest.mark.parametrize("path", [*CORE, *HOOKS], ids=module_of)
def test_importing_a_module_needs_the_standard_library_pluggy_and_yaml(path):
    foreign = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for name, line in imported(tree_of(path), with_functions=False)
        if name.partition(".")[0] not in {*sys.stdlib_module_names, "pluggy", "yaml", "preflight"}
    ]

    assert not foreign


@pytest.mark.parametrize("path", [*CORE, *HOOKS], ids=module_of)
def test_a_module_starts_with_a_sentence_that_says_what_is_in_it(path):
    docstring = ast.get_docstring(tree_of(path)) or ""

    assert docstring.split("\n\n")[0].rstrip().endswith((".", ":", "`")), path

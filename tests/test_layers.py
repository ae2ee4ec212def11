"""Imports point downwards, every package has a floor, nothing runs in a circle, and the core imports nothing heavy."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINKED = {ROOT / "preflight" / "hooks", ROOT / "preflight" / "templates"}
"""Where a checkout may link the top-level folders into the package."""
CORE = sorted(
    path for path in (ROOT / "preflight").rglob("*.py") if LINKED.isdisjoint(path.parents)
)
HOOKS = sorted((ROOT / "hooks").glob("*.py"))

FLOORS = (
    (
        "values",
        "lazy_pattern",
        "bool_words",
        "units",
        "errors",
        "reading",
        "plan_types",
        "near_names",
        "own_tables",
        "notebooks",
        "remembered",
        "streams",
        "deadline",
        "files",
        "switch",
        "whole_file",
        "printable",
        "trust",
        "version",
        "documentation",
    ),
    (
        "versions",
        "device",
        "model",
        "finding",
        "command",
        "plan_parts",
        "plan_choices",
        "setting",
        "launch_facts",
    ),
    ("launch", "memory", "rewrite"),
    ("verdict", "remedy", "plan_dict", "advice", "peaks", "open_values"),
    ("readings",),
    ("formats", "findings"),
    ("formulas",),
    ("trace",),
    ("models",),
    ("devices",),
    ("datasets",),
    ("report", "policy"),
    ("records",),
    ("shell",),
    ("envelopes",),
    ("libraries",),
    ("node",),
    ("scripts",),
    ("repository",),
    ("hookspecs", "builtin_hooks"),
    ("plugin_manager",),
    ("plugins",),
    ("trainers",),
    ("engines",),
    ("writers",),
    ("launchers",),
    ("hooks",),
    ("request",),
    ("judge", "rewriting", "certainty"),
    ("search",),
    ("pipeline",),
    ("slurm",),
    ("studies",),
    ("render",),
    ("api",),
    ("embedded",),
    ("__init__", "commands"),
    ("cli",),
    ("__main__",),
    ("derive",),
)
"""From the ground up: a module imports its own package and the floors below it. No two on one floor know each other,
except the nouns of the three lowest floors."""

NOUNS = 3
"""Floors whose modules may know those beside them: nouns are made of nouns."""


WITHIN = {
    "scripts": (
        ("arguments",),
        ("python",),
        ("reach",),
        ("losses",),
        ("settings",),
        ("uncounted",),
    ),
    "formulas": (("adapters",), ("layers",), ("engines", "objectives"), ("limits",)),
    "shell": (("grammar",), ("meaning",), ("programs",), ("starters",)),
    "derive": (("layouts",), ("costs", "tables"), ("pages",)),
}
"""Package -> the floors of the packages in it; the modules beside them stand on any, and serve any."""


def floor_of(package: str) -> int:
    """Return the floor of a package or root module; every one has to be named above."""
    for floor, names in enumerate(FLOORS):
        if package in names:
            return floor
    raise AssertionError(f"preflight/{package} has no floor: name it in FLOORS")


def module_of(path: Path) -> str:
    """Return `preflight.memory`, `preflight.render.page`, `preflight.hooks.read_trl`, ..."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] == "hooks":
        parts = ("preflight", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in (*CORE, *HOOKS)}


def package_of(module: str) -> str:
    """Return the first name under `preflight`; the package's own module is `__init__`."""
    return [*module.split("."), "__init__"][1]


def imported(tree: ast.Module, with_functions: bool = True) -> Iterator[tuple[str, int]]:
    """Yield the modules that a file imports, those for the type checker and those of functions among them."""
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield (name if name in MODULES else node.module or ""), node.lineno
        elif not with_functions and (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        ):
            continue
        nodes.extend(ast.iter_child_nodes(node))


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def own_imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the modules of preflight that a file imports, wherever in it."""
    for name, line in imported(tree_of(path)):
        if name in MODULES and name != module_of(path):
            yield name, line


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_below_it(module):
    path = MODULES[module]
    own = package_of(module)
    floor = floor_of(own)
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for name, line in own_imports(path)
        if (package_of(name) != own and (floor_of(package_of(name)) > floor - (floor >= NOUNS)))
        # explain and the references show what the built-ins are; nobody else reaches into them
        or (package_of(name) == "hooks" != own and own != "derive")
    ]

    assert not wrong


def inner_of(module: str) -> str:
    """Return the package within a package of WITHIN in which a module lies; empty for one beside those."""
    parts = [*module.split("."), "", ""]
    known = [name for floor in WITHIN.get(parts[1], ()) for name in floor]
    return parts[2] if parts[2] in known else ""


@pytest.mark.parametrize("package", WITHIN)
def test_a_package_within_another_imports_only_those_below_it(package):
    floors = {name: floor for floor, names in enumerate(WITHIN[package]) for name in names}
    folders = {path.parent.name for path in (ROOT / "preflight" / package).glob("*/__init__.py")}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for module, path in MODULES.items()
        if package_of(module) == package and inner_of(module)
        for name, line in own_imports(path)
        if package_of(name) == package
        and inner_of(name)
        and floors[inner_of(name)] > floors[inner_of(module)]
    ]

    assert folders == floors.keys()
    assert not wrong


def test_every_package_and_no_other_has_a_floor():
    named = [name for names in FLOORS for name in names]

    assert sorted(named) == sorted({package_of(module) for module in MODULES})


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Return the modules of one circle of imports; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def test_no_imports_run_in_a_circle_those_of_functions_and_of_the_type_checker_counted():
    graph = {name: {other for other, _ in own_imports(path)} for name, path in MODULES.items()}

    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not circle(graph)


@pytest.mark.parametrize("path", HOOKS, ids=lambda path: path.stem)
def test_a_hook_imports_values_from_preflight_and_no_other_hook(path):
    others = [
        f"{path.name}:{line} imports {name}"
        for name, line in own_imports(path)
        if package_of(name) in ("hooks", "plugins")
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

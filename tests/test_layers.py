"""Imports point downwards, every package has a floor, nothing runs in a circle, and the core imports nothing heavy."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter

import pytest
from own_sources import ROOT, SOURCES, own_trees, tree_of

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
        "unpriced_names",
        "own_tables",
        "notebooks",
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
    ("verdict", "remedy", "plan_dict", "advice", "peaks", "open_values", "remembered"),
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
    "derive": (("hub",), ("layouts",), ("costs", "tables"), ("pages",)),
}
"""Package -> the floors of the packages in it; the modules beside them stand on any, and serve any."""


def floor_of(package: str) -> int:
    """Return the floor of a package or root module; every one has to be named above."""
    for floor, names in enumerate(FLOORS):
        if package in names:
            return floor
    raise AssertionError(f"preflight/{package} has no floor: name it in FLOORS")


def module_of(name: str) -> str:
    """Return `preflight.memory`, `preflight.render.page`, `preflight.hooks.read_trl`, ..."""
    parts = name.removesuffix(".py").removesuffix("/__init__").split("/")
    return ".".join(["preflight", *parts] if parts[0] == "hooks" else parts)


MODULES = {module_of(name): name for name in SOURCES}


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


@cache
def own_imports(module: str) -> tuple[tuple[str, int], ...]:
    """Return the modules of preflight that one imports, wherever in it, with the lines."""
    found = imported(tree_of(MODULES[module]))
    return tuple((name, line) for name, line in found if name in MODULES and name != module)


def imports_of_all() -> Iterator[tuple[str, str, str]]:
    """Yield every module, what it imports of preflight, and `file:line imports module`."""
    for module, path in MODULES.items():
        for name, line in own_imports(module):
            yield module, name, f"{path}:{line} imports {name}"


def may_import(module: str, name: str) -> bool:
    """Tell whether a module stands above one that it imports, or beside it in its package."""
    own, other = package_of(module), package_of(name)
    floor = floor_of(own)
    # explain and the references show what the built-ins are; nobody else reaches into them
    return own == other or (
        floor_of(other) <= floor - (floor >= NOUNS) and (other != "hooks" or own == "derive")
    )


def test_a_module_imports_only_what_stands_below_it():
    assert may_import("preflight.cli", "preflight.commands.check")
    assert not may_import("preflight.commands.check", "preflight.cli")

    assert [text for module, name, text in imports_of_all() if not may_import(module, name)] == []


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
        text
        for module, name, text in imports_of_all()
        if package_of(module) == package_of(name) == package
        and inner_of(module)
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
    graph = {name: {other for other, _ in own_imports(name)} for name in MODULES}

    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not circle(graph)


def test_a_hook_imports_values_from_preflight_and_no_other_hook():
    others = [
        text
        for module, name, text in imports_of_all()
        if package_of(module) == "hooks" and package_of(name) in ("hooks", "plugins")
    ]

    assert others == []


OF_TORCH = "preflight/derive/hub/chatglm"
"""Models that torch runs, whose classes are torch's: `derive.hub.register` imports them where one is traced."""


def test_importing_a_module_needs_the_standard_library_pluggy_and_yaml():
    known = {*sys.stdlib_module_names, "pluggy", "yaml", "preflight"}
    foreign = [
        f"{path}:{line} imports {name}"
        for path, tree in own_trees()
        if not str(path).startswith(OF_TORCH)
        for name, line in imported(tree, with_functions=False)
        if name.partition(".")[0] not in known
    ]

    assert foreign == []


def test_a_module_starts_with_a_sentence_that_says_what_is_in_it():
    first = {path: (ast.get_docstring(tree) or "").split("\n\n")[0] for path, tree in own_trees()}

    assert [path for path, text in first.items() if not text.endswith((".", ":", "`"))] == []

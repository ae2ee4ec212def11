"""Prints the test files that need the core and pytest's own packages alone: what CI runs under every Python.

A file needs what it imports, and what the helpers beside it import, wherever in them. Left out by name are folders
whose tests start launchers, daemons or a browser.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

TESTS = Path(__file__).parent
CORE = {
    "pluggy",
    "yaml",
    "rich",
    "tomli",
    "pytest",
    "_pytest",
    "hypothesis",
    "jsonschema",
    "preflight",
}
STARTS_THINGS = {
    "benchmarks",
    "docs",
    "embedded",
    "findings",
    "formulas",
    "fuzz",
    "hooks",
    "launches",
    "node",
    "proofs",
    "render",
    "slurm",
    "trace",
}
NEEDS_LIBRARIES = ("preflight.derive", "preflight.trace")
BESIDE_LIBRARIES = {
    "test_cli_dataset.py": "builds a wheel",
    "test_core_only.py": "builds a wheel",
    "test_plugins_installed.py": "installs a package",
    "test_script_corpus.py": "asks transformers and TRL in a process of their own",
    "test_unknown_arguments.py": "runs the parsers of transformers and TRL",
}
"""Files whose need no import shows -> what it is."""


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, in functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("importorskip"):
            names.update(ast.literal_eval(argument) for argument in node.args[:1])
    return names


def needs_core_alone(path: Path, helpers: dict[str, Path], seen: set[Path] | None = None) -> bool:
    """Tell whether a file and the helpers that it imports need no library of a launch."""
    seen = set() if seen is None else seen
    if path in seen:
        return True
    seen.add(path)
    for name in imported(path):
        top = name.partition(".")[0]
        helper = helpers.get(name.rpartition(".")[2]) if top == "tests" else helpers.get(top)
        if name.startswith(NEEDS_LIBRARIES):
            return False
        if helper is not None:
            if not needs_core_alone(helper, helpers, seen):
                return False
        elif top not in CORE and top not in sys.stdlib_module_names:
            return False
    return True


def core_tests() -> list[Path]:
    """Return the test files for a core installation, in order."""
    files = [p for p in TESTS.rglob("*.py") if STARTS_THINGS.isdisjoint(p.relative_to(TESTS).parts)]
    helpers = {path.stem: path for path in TESTS.rglob("*.py")}
    return sorted(
        path
        for path in files
        if path.name.startswith("test_")
        and path.name not in BESIDE_LIBRARIES
        and needs_core_alone(path, helpers)
    )


if __name__ == "__main__":
    print("\n".join(str(path.relative_to(TESTS.parent)) for path in core_tests()))

"""The modules of preflight/ and hooks/ for tests that look at how they are written: parsed once for all of them."""

from __future__ import annotations

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINKED = {ROOT / "preflight" / "hooks", ROOT / "preflight" / "templates"}
"""Where a checkout may link the top-level folders into the package."""
SOURCES = {
    path.relative_to(ROOT).as_posix(): path
    for folder in ("preflight", "hooks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if LINKED.isdisjoint(path.parents)
}
"""Path from the root of the checkout -> the file."""


def own_trees() -> Iterator[tuple[str, ast.Module]]:
    """Yield the path and the tree of every module."""
    yield from _parsed().items()


def tree_of(name: str) -> ast.Module:
    """Return the tree of a module, by its path from the root of the checkout."""
    return _parsed()[name]


@cache
def _parsed() -> dict[str, ast.Module]:
    trees = {name: ast.parse(path.read_text(), name) for name, path in SOURCES.items()}
    # A million nodes that stay: later collections need not look at them.
    gc.collect()
    gc.freeze()
    return trees

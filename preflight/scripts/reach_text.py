"""The text of a repository's files without what a launch does not run, line by line: a place in it is a place in the file."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from preflight.scripts.modules import Module
from preflight.scripts.reach import Reach

COMMENT = re.compile(r"^[ \t]*#[^\n]*", re.MULTILINE)
"""On a line of its own: one behind code may stand inside a text."""


def text_left(reach: Reach) -> Iterator[tuple[str, str]]:
    """Yield the files, the script first, with the lines of theirs emptied that nothing leads to."""
    for module in reach.files:
        kept = reach.lines[module.path]
        lines = COMMENT.sub("", module.text).split("\n")
        left = [line if number in kept else "" for number, line in enumerate(lines, 1)]
        for held, node in (*reach.idle, *reach.lookups.unpicked()):
            if held is module:
                _blank(left, node)
        if not reach.reaches_everything:
            _without_unused_imports(reach, module, left)
        yield module.path, "\n".join(left)
    yield from reach.modules.unread.items()


def _without_unused_imports(reach: Reach, module: Module, lines: list[str]) -> None:
    for node in ast.walk(module.tree):
        if not isinstance(node, (ast.Import, ast.ImportFrom)) or not lines[node.lineno - 1]:
            continue
        if isinstance(node, ast.Import) and module is reach.files[0]:
            continue  # for what it does when it is imported
        unnamed = [a for a in node.names if not _is_named(reach, module, a)]
        last = node.end_lineno or node.lineno
        if len(unnamed) == len(node.names):
            lines[node.lineno - 1 : last] = [""] * (last - node.lineno + 1)
            continue
        for alias in unnamed:
            _blank(lines, alias)


def _is_named(reach: Reach, module: Module, alias: ast.alias) -> bool:
    local = alias.asname or alias.name.partition(".")[0]
    return (
        alias.name == "*"
        or (module.path, local) in reach.used
        or (module.path, local) in reach.modules.passed_on
    )


def _blank(lines: list[str], node: ast.expr | ast.alias) -> None:
    """Take an expression out of the lines of its file."""
    for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        line = lines[number - 1]
        first = node.col_offset if number == node.lineno else 0
        last = (node.end_col_offset or 0) if number == node.end_lineno else len(line)
        lines[number - 1] = line[:first] + " " * (min(last, len(line)) - first) + line[last:]

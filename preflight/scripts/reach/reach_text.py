"""The text of a repository's files without what a launch does not run, line by line: a place in it is a place in the file."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.argument_parsers import underscored
from preflight.scripts.python.modules import Module
from preflight.scripts.python.nodes import last_name, walk
from preflight.scripts.python.scope import Parsed
from preflight.scripts.reach.reach import Reach

COMMENT = lazy_pattern(r"^[ \t]*#[^\n]*", re.MULTILINE)
"""On a line of its own: one behind code may stand inside a text."""


SIZES = lazy_pattern(r"size|degree|parallel|num_")
"""Of an argument that says how many there are: one is none beside."""


def text_left(reach: Reach, speaks: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield the files, the script first, with the lines of theirs emptied that nothing leads to.

    Arguments whose name `speaks` of something are left out where they are declared and read, if they are off.
    """
    off = _off(reach, speaks)
    untaken = [each for key, each in reach.branches.items() if key not in reach.seen]
    idle: list[tuple[str, ast.expr | ast.stmt]] = [
        (held.path, node) for held, node in (*reach.idle, *reach.lookups.unpicked(), *untaken)
    ]
    idle += [*_reads(reach, off), *_declared(reach, off)] if off else []
    for path, node in reach.reader.untaken if reach.reader is not None else ():
        if isinstance(node, (ast.expr, ast.stmt)):
            idle.append((path, node))
    idle += _false_tests(reach)
    for module in reach.files:
        kept = reach.lines[module.path]
        lines = COMMENT.sub("", module.text).split("\n")
        left = [line if number in kept else "" for number, line in enumerate(lines, 1)]
        for path, node in idle:
            if path == module.path:
                _blank(left, node)
        if not reach.reaches_everything:
            _without_unused_imports(reach, module, left)
        yield module.path, "\n".join(left)
    yield from reach.modules.unread.items()


def _false_tests(reach: Reach) -> Iterator[tuple[str, ast.expr]]:
    """Yield the conditions, `if config["lora"]:`, that lead into no branch and call nothing: what they name is asked for, and
    not there."""
    untaken = {id(node) for _, node in reach.reader.untaken} if reach.reader is not None else ()
    for module in reach.files if untaken else ():
        for node in walk(module.tree):
            if not isinstance(node, ast.If) or id(node.body[0]) not in untaken:
                continue
            if not any(isinstance(each, ast.Call) for each in walk(node.test)):
                yield module.path, node.test


def _off(reach: Reach, speaks: Callable[[str], bool]) -> frozenset[str]:
    """Return the arguments that are off in this launch, wherever the script has one of their name."""
    said: dict[str, list[object]] = {}
    for names in reach.reader.arguments() if reach.reader is not None else ():
        for name, known in names.items():
            said.setdefault(name, []).append(known.value)
    is_kept = reach.values.is_open or reach.reaches_everything
    return frozenset(
        name
        for name, values in said.items()
        if not is_kept
        and name not in reach.values.changed_attributes
        and all(_is_off(name, value) for value in values)
        and speaks(name)
    )


def _is_off(name: str, value: object) -> bool:
    if value is None or value is False:
        return True
    if isinstance(value, str):
        return value.lower() in ("", "none", "no", "false")
    is_none_beside = value == 1 and value is not True and SIZES.search(name) is not None
    return is_none_beside or (isinstance(value, (int, float)) and value == 0)


def _reads(reach: Reach, off: frozenset[str]) -> Iterator[tuple[str, ast.expr]]:
    for name in off:
        for module, node, scope in reach.attributes.get(name, ()):
            if isinstance(reach.values.value(node.value, scope), Parsed):
                yield module.path, node


def _declared(reach: Reach, off: frozenset[str]) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    """Yield the fields of dataclasses and the `add_argument` calls that declare arguments."""
    near: Mapping[str, object] = reach.reader.modules if reach.reader is not None else {}
    for module in reach.files:
        for node in walk(module.tree) if module.path in near else ():
            if isinstance(node, ast.ClassDef):
                for field in node.body:
                    target = getattr(field, "target", None)
                    if isinstance(target, ast.Name) and target.id in off:
                        yield module.path, field
            elif isinstance(node, ast.Call) and last_name(node.func) == "add_argument":
                words = [getattr(each, "value", None) for each in node.args]
                if any(isinstance(word, str) and underscored(word) in off for word in words):
                    yield module.path, node


def _without_unused_imports(reach: Reach, module: Module, lines: list[str]) -> None:
    for node in module.import_statements:
        if not lines[node.lineno - 1]:
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


def _blank(lines: list[str], node: ast.expr | ast.alias | ast.stmt) -> None:
    """Take an expression out of the lines of its file."""
    for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
        line = lines[number - 1]
        first = node.col_offset if number == node.lineno else 0
        last = (node.end_col_offset or 0) if number == node.end_lineno else len(line)
        lines[number - 1] = line[:first] + " " * (min(last, len(line)) - first) + line[last:]

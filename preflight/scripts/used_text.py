"""The text of a repository's files without the functions and classes that nothing which runs speaks of.

A file that is imported for one function holds many others: a reward model's loader, a classifier's head, an inference
engine. Python runs what stands outside functions; of the rest, only what some running line names can run. What is not
named is blanked out, line by line, so that a place in the text is a place in the file.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from preflight.launch_facts import Lines
from preflight.scripts.files import is_main_guard
from preflight.values import dataclass

PLAIN_DECORATORS = re.compile(
    r"dataclass|cache|property|static|classmethod|contextmanager|overload|wraps|final|no_grad|inference_mode|compile"
    r"|docstring|deprecat|total_ordering|hydra"
)
"""Names of decorators that hand nothing to anybody who would call it later; any other one may register it."""
BY_NAME = re.compile(
    r"\bimport_module\(|\b__import__\(|\bglobals\(\)|\bsys\.modules\b|(?<![.\w])(?<!def )(?:eval|exec)\(|\bFire\(\)"
)
"""Calls that reach a function by a name which is made when the script runs."""

OF_MODULE = re.compile(r"\bgetattr\((?:\w+\.)*(\w+),\s*(?![\"\'\s])")
"""An attribute of something whose name is made so; of a module it may be any function."""
COMMENT = re.compile(r"^[ \t]*#[^\n]*", re.MULTILINE)
"""On a line of its own: one behind code may stand inside a text."""

File = tuple[str, str]
"""Path and text."""


@dataclass(frozen=True)
class _Part:
    """A function or class at the top of a file."""

    name: str
    node: ast.AST
    file: int
    first: int
    last: int


def used_text(files: Sequence[File], untaken: Iterable[Lines] = ()) -> list[File]:
    """Return the files, the script first, with lines of theirs emptied that no running line leads to.

    `untaken` are statements in branches that are known not to be taken.
    """
    never = set(untaken)
    trees = [_parsed(text) for _, text in files]
    renamed = _renamed(trees)
    named: set[str] = set()
    waiting: list[_Part] = []
    dropped: list[tuple[int, int, int]] = []
    imports: list[tuple[int, ast.Import | ast.ImportFrom]] = []
    for index, tree in enumerate(trees):
        if tree is None:
            named.update(re.findall(r"[^\W\d]\w*", files[index][1]))
            continue
        if never:
            dropped += [(index, *_lines(node)) for node in _pruned(tree, files[index][0], never)]
        prose = filter(None, map(_prose, ast.walk(tree)))
        dropped += [(index, *_lines(node)) for node in prose]
        for node in _statements(tree.body):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imports.append((index, node))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                waiting.append(_Part(node.name, node, index, *_lines(node)))
                named |= _names(node.decorator_list, renamed)
                if any(not PLAIN_DECORATORS.search(ast.unparse(d)) for d in node.decorator_list):
                    named.add(node.name)
            elif is_main_guard(node) and index > 0:
                dropped.append((index, *_lines(node)))
            elif not _is_list_of_names(node):
                named |= _names([node], renamed)
    while True:
        ready = [part for part in waiting if part.name in named]
        if not ready:
            break
        waiting = [part for part in waiting if part.name not in named]
        named |= _names([part.node for part in ready], renamed)
    dropped += [(part.file, part.first, part.last) for part in waiting]
    lines = [text.split("\n") for _, text in files]
    for index, node in imports:
        if index == 0 and isinstance(node, ast.Import):
            continue  # for what it does when it is imported
        unused = [alias for alias in node.names if not _is_used(alias, named)]
        if len(unused) == len(node.names):
            dropped.append((index, *_lines(node)))
            continue
        for alias in unused:
            line, end = lines[index][alias.lineno - 1], alias.end_col_offset or 0
            gone = " " * (end - alias.col_offset)
            lines[index][alias.lineno - 1] = line[: alias.col_offset] + gone + line[end:]
    for index, first, last in dropped:
        lines[index][first - 1 : last] = [""] * len(lines[index][first - 1 : last])
    used = [
        (path, COMMENT.sub("", "\n".join(kept)))
        for (path, _), kept in zip(files, lines, strict=True)
    ]
    return list(files) if _calls_by_name(used, renamed) else used


def _calls_by_name(files: Sequence[File], renamed: Mapping[str, set[str]]) -> bool:
    """Tell whether anything may be called by a name that is made when the script runs."""
    modules = {os.path.basename(path).removesuffix(".py") for path, _ in files}
    return any(
        BY_NAME.search(text)
        or any(modules & {name, *renamed.get(name, ())} for name in OF_MODULE.findall(text))
        for _, text in files
    )


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _pruned(tree: ast.Module, path: str, never: set[Lines]) -> Iterator[ast.stmt]:
    """Take the statements that are not reached out of their branches; yield them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If):
            for branch in (node.body, node.orelse):
                gone = [n for n in branch if (path, n.lineno, n.end_lineno or n.lineno) in never]
                for each in gone:
                    branch.remove(each)
                yield from gone


def _lines(node: ast.stmt) -> tuple[int, int]:
    """Return the first line of a statement, that of its decorators, and the last."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    return first, node.end_lineno or first


def _prose(node: ast.AST) -> ast.Expr | None:
    """Return a statement that is a text and nothing else: a docstring."""
    if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
        return None
    return node if isinstance(node.value.value, str) else None


def _renamed(trees: Iterable[ast.Module | None]) -> dict[str, set[str]]:
    """Return the names that imports give -> what they are called where they are defined."""
    renamed: dict[str, set[str]] = {}
    for tree in trees:
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    if alias.asname:
                        renamed.setdefault(alias.asname, set()).add(alias.name.rpartition(".")[2])
    return renamed


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements at the top of a file, those under an `if` or a `try` too."""
    for node in body:
        if isinstance(node, ast.If) and not is_main_guard(node):
            yield ast.copy_location(ast.Expr(node.test), node)
            yield from _statements([*node.body, *node.orelse])
        elif isinstance(node, ast.Try):
            inner = [*node.body, *node.orelse, *node.finalbody]
            yield from _statements([*inner, *(s for h in node.handlers for s in h.body)])
        else:
            yield node


def _is_list_of_names(node: ast.stmt) -> bool:
    """Tell whether a statement is `__all__ = [...]`."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets)


def _is_used(alias: ast.alias, named: set[str]) -> bool:
    local = alias.asname or alias.name.partition(".")[0]
    return alias.name == "*" or local in named


def _names(nodes: Iterable[ast.AST], renamed: dict[str, set[str]]) -> set[str]:
    """Return the names, attributes and one-word texts of some nodes; a renamed import under both its names."""
    found: set[str] = set()
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Constant) and str(node.value).isidentifier():
                found.add(str(node.value))
    for name in list(found):
        found |= renamed.get(name, set())
    return found

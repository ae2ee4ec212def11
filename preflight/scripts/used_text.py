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
from preflight.scripts.flow import is_main_guard
from preflight.scripts.trees import tree_of
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
WORD = re.compile(r"[^\W\d]\w*")
RENAMED = re.compile(r"\b(\w+)[ \t]+as[ \t]+(\w+)")
"""`import name as other`, and whatever else gives a name on in these words."""
COMMENT = re.compile(r"^[ \t]*#[^\n]*", re.MULTILINE)
"""On a line of its own: one behind code may stand inside a text."""

File = tuple[str, str]
"""Path and text."""


@dataclass(frozen=True)
class _Part:
    """A function or class at the top of a file."""

    name: str
    file: int
    first: int
    last: int


def used_text(files: Sequence[File], untaken: Iterable[Lines] = ()) -> list[File]:
    """Return the files, the script first, with lines of theirs emptied that no running line leads to.

    `untaken` are statements in branches that are known not to be taken. Names are the words of a line, so that a text
    that names a function counts as a call of it.
    """
    never = set(untaken)
    trees = [_parsed(text) for _, text in files]
    lines = [COMMENT.sub("", text).split("\n") for _, text in files]
    renamed = _renamed(text for _, text in files)
    named: set[str] = set()
    waiting: list[_Part] = []
    imports: list[tuple[int, ast.Import | ast.ImportFrom]] = []

    def empty(file: int, first: int, last: int) -> None:
        lines[file][first - 1 : last] = [""] * len(lines[file][first - 1 : last])

    def words(file: int, first: int, last: int) -> set[str]:
        found = set(WORD.findall("\n".join(lines[file][first - 1 : last])))
        return found.union(*(renamed[name] for name in found if name in renamed))

    for index, tree in enumerate(trees):
        if tree is None:
            named |= words(index, 1, len(lines[index]))
            continue
        for node in _silent(tree.body, files[index][0], never):
            empty(index, *_lines(node))
        for node in _statements(tree.body):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imports.append((index, node))
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                first, last = _lines(node)
                waiting.append(_Part(node.name, index, first, last))
                # A decorator that documents a class speaks of it, and hands it to nobody.
                named |= words(index, first, node.lineno - 1) - {node.name}
                if any(not PLAIN_DECORATORS.search(ast.unparse(d)) for d in node.decorator_list):
                    named.add(node.name)
            elif is_main_guard(node) and index > 0:
                empty(index, *_lines(node))
            elif not _is_list_of_names(node):
                named |= words(index, *_lines(node))
    unused: dict[str, list[_Part]] = {}
    for part in waiting:
        unused.setdefault(part.name, []).append(part)
    new = set(named)
    while new:
        ready = [part for name in new for part in unused.pop(name, ())]
        new = {word for part in ready for word in words(part.file, part.first, part.last)} - named
        named |= new
    for parts in unused.values():
        for part in parts:
            empty(part.file, part.first, part.last)
    for index, node in imports:
        if index == 0 and isinstance(node, ast.Import):
            continue  # for what it does when it is imported
        unnamed = [alias for alias in node.names if not _is_used(alias, named)]
        if len(unnamed) == len(node.names):
            empty(index, *_lines(node))
            continue
        for alias in unnamed:
            line, end = lines[index][alias.lineno - 1], alias.end_col_offset or 0
            gone = " " * (end - alias.col_offset)
            lines[index][alias.lineno - 1] = line[: alias.col_offset] + gone + line[end:]
    used = [(path, "\n".join(kept)) for (path, _), kept in zip(files, lines, strict=True)]
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
        return tree_of(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _lines(node: ast.stmt) -> tuple[int, int]:
    """Return the first line of a statement, that of its decorators, and the last."""
    first = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))])
    return first, node.end_lineno or first


def _silent(body: Iterable[ast.stmt], path: str, never: set[Lines]) -> Iterator[ast.stmt]:
    """Yield the statements that do nothing: docstrings, and branches that are not taken."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or (path, node.lineno, node.end_lineno or node.lineno) in never:
            yield node
            continue
        for name in ("body", "orelse", "finalbody"):
            waiting += getattr(node, name, ())
        for other in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
            waiting += other.body


def _renamed(texts: Iterable[str]) -> dict[str, set[str]]:
    """Return the names that imports give -> what they are called where they are defined."""
    renamed: dict[str, set[str]] = {}
    for text in texts:
        for name, local in RENAMED.findall(text):
            renamed.setdefault(local, set()).add(name)
    return renamed


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements at the top of a file, those under an `if` or a `try` too, however deep."""
    waiting = list(body)[::-1]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and not is_main_guard(node):
            yield ast.copy_location(ast.Expr(node.test), node.test)
            waiting += [*node.body, *node.orelse][::-1]
        elif isinstance(node, ast.Try):
            inner = [*node.body, *node.orelse, *node.finalbody]
            waiting += [*inner, *(s for h in node.handlers for s in h.body)][::-1]
        else:
            yield node


def _is_list_of_names(node: ast.stmt) -> bool:
    """Tell whether a statement is `__all__ = [...]`."""
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(each, ast.Name) and each.id == "__all__" for each in targets)


def _is_used(alias: ast.alias, named: set[str]) -> bool:
    local = alias.asname or alias.name.partition(".")[0]
    return alias.name == "*" or local in named

"""Variables of its own process that a script sets: `os.environ["ROWS"] = "8"`, `os.environ.setdefault("ROWS", "8")`."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator, Mapping

from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.flow import ANYWHERE, ways_of
from preflight.scripts.python.nodes import keyword_of, last_name, unparse
from preflight.scripts.python.scope import Scope
from preflight.values import dataclass

ANY_VARIABLE = ""
"""Stands for a name that only running tells."""
SETTING = ("setdefault", "update", "putenv")
"""Calls that set variables, by their last name."""


@dataclass(frozen=True)
class SetVariable:
    """One of the variables that a statement sets."""

    name: ast.expr | None
    """None, like the value, where it is in a mapping that is not read."""
    value: ast.expr | None
    is_default: bool = False
    """Whether the variable keeps what the launch gave it."""


@dataclass(frozen=True)
class SetIn:
    """What sets a variable, and where."""

    value: ast.expr | None
    scope: Scope
    is_default: bool
    is_sure: bool
    """Whether it runs as soon as its file is loaded."""


def is_environment(node: ast.expr) -> bool:
    """Tell whether an expression is the variables of the process."""
    return unparse(node) in ("os.environ", "environ")


def set_variables(
    blocks: Iterable[tuple[list[ast.stmt], Scope]], command: LaunchCommand
) -> Mapping[str, list[SetIn]]:
    """Return variable -> what sets it in some blocks; ANY_VARIABLE has those whose name is no text of the script."""
    found: dict[str, list[SetIn]] = {}
    for body, scope in blocks:
        ways = ways_of(body)
        for node in walk_block(body):
            if isinstance(node, (ast.Assign, ast.Expr)):
                way = ways.get(id(node), ANYWHERE)
                is_sure = scope.outer is None and not way.guards
                does = node if isinstance(node, ast.Assign) else node.value
                for each in (*set_by(does), *_of_file(does, scope, command)):
                    name = getattr(each.name, "value", ANY_VARIABLE)
                    held = SetIn(each.value, scope, each.is_default, is_sure)
                    found.setdefault(str(name), []).append(held)
    return found


def set_by(node: ast.AST) -> Iterator[SetVariable]:
    """Yield the variables that an assignment or a call sets."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Subscript) and is_environment(target.value):
                yield SetVariable(target.slice, node.value)
    elif isinstance(node, ast.Call):
        func = node.func
        method = func.attr if isinstance(func, ast.Attribute) and is_environment(func.value) else ""
        is_pair = len(node.args) == 2 and not node.keywords
        if is_pair and (method == "setdefault" or unparse(func) in ("os.putenv", "putenv")):
            yield SetVariable(node.args[0], node.args[1], is_default=bool(method))
        elif method == "update":
            for given in (*node.args, *(each.value for each in node.keywords if not each.arg)):
                yield from _entries(given)
            for each in node.keywords:
                if each.arg:
                    yield SetVariable(ast.copy_location(ast.Constant(each.arg), node), each.value)


def _of_file(node: ast.AST, scope: Scope, command: LaunchCommand) -> Iterator[SetVariable]:
    """Yield what `load_dotenv()` sets: of the first `.env` beside the script or above it (python-dotenv 1.0 to 1.2, main.py,
    find_dotenv), or of the file that it is given; the launch's own variables stay, without `override`."""
    if not isinstance(node, ast.Call) or last_name(node.func) != "load_dotenv":
        return
    given = [*node.args, *(each.value for each in node.keywords if each.arg == "dotenv_path")]
    override = keyword_of(node, "override")
    stays = override is None or getattr(override, "value", True) is False
    if given:
        paths = [str(each.value) for each in given if isinstance(each, ast.Constant)]
    else:
        from pathlib import Path  # few scripts have such a file

        folder = os.path.join(command.cwd, os.path.dirname(scope.path))
        above = (Path(os.path.normpath(folder)), *Path(os.path.normpath(folder)).parents)
        paths = [str(each / ".env") for each in above if (each / ".env").is_file()][:1]
    for path in paths:
        for line in command.readable_text(path).splitlines():
            found = _LINE.fullmatch(line)
            if found is not None:
                plain = found["quoted"] or found["bare"] or ""
                value = None if "$" in plain else ast.copy_location(ast.Constant(plain), node)
                yield SetVariable(ast.Constant(found["name"]), value, stays)
    if given and not paths:
        yield SetVariable(None, None, stays)


_LINE = lazy_pattern(
    r"""\s*(?:export\s+)?(?P<name>\w+)\s*=\s*(?:(?P<mark>['"])(?P<quoted>.*)(?P=mark)|(?P<bare>[^'"#]*?))\s*(?:#.*)?"""
)


def _entries(mapping: ast.expr) -> Iterator[SetVariable]:
    if isinstance(mapping, ast.Dict):
        for key, value in zip(mapping.keys, mapping.values, strict=True):
            yield SetVariable(key, value if key is not None else None)
    else:
        yield SetVariable(None, None)

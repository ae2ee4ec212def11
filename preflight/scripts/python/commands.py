"""The functions of a training script that typer, click, fire, fastcore or Hydra call, and what their parameters are here."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from preflight.scripts.python.argument_parsers import positional
from preflight.scripts.python.field_types import converted
from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.scope import UNKNOWN, FlagOf, Known, Scope
from preflight.scripts.python.values import Evaluator
from preflight.setting import Place


def command_parameters(
    function: ast.FunctionDef, scope: Scope, evaluator: Evaluator, flag_of: FlagOf
) -> dict[str, Known]:
    """Return the parameters of a function that typer, click, fire or Hydra calls from the command line."""
    of_hydra = next(filter(_is_hydra, function.decorator_list), None)
    if of_hydra is not None:
        from preflight.scripts.python.hydra_main import configuration  # few scripts are Hydra's

        return {
            argument.arg: Known(
                configuration(of_hydra, scope, evaluator),
                Place("script", scope.path, argument.arg, argument.lineno),
            )
            for argument in function.args.args[:1]
        }
    if any(map(_is_wrap, function.decorator_list)):
        return {each.arg: _filled(each, scope, evaluator) for each in function.args.args[:1]}
    options = _click_options(function, scope, evaluator)
    values: dict[str, Known] = {}
    places = [argument.arg for argument, default in defaults_of(function) if default is None]
    for argument, default in defaults_of(function):
        flag, stated = options.get(argument.arg, (argument.arg, default))
        name = argument.arg
        words = [positional(places.index(name))] if name in places and not options else []
        given = flag_of([flag, name, *words])
        place = Place("script", scope.path, argument.arg, argument.lineno)
        if given is not None:
            values[argument.arg] = Known(
                _guessed(given.value, argument.annotation), given.place, flag
            )
            continue
        node = _typer_default(stated)
        value = UNKNOWN if node is None else evaluator.value(node, scope)
        values[argument.arg] = Known(value, place, flag)
    return values


RUNS = (
    "fire.Fire",
    "Fire",
    "typer.run",
    "jsonargparse.CLI",
    "jsonargparse.auto_cli",
    "CLI",
    "auto_cli",
)
"""What calls a function with the command line."""
WRAPS = frozenset({"draccus.wrap", "pyrallis.wrap", "parser.wrap"})
"""Decorators that give a function the object of its first parameter's class, filled from the command line."""


def _is_hydra(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and unparse(node.func) == "hydra.main"


def _is_wrap(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and unparse(node.func) in WRAPS


def _filled(argument: ast.arg, scope: Scope, evaluator: Evaluator) -> Known:
    """Return what `draccus.parse(Settings)` gives for the class of a parameter."""
    if argument.annotation is None:
        return Known(UNKNOWN, Place("script", scope.path, argument.arg, argument.lineno))
    parse = ast.copy_location(ast.parse("draccus.parse()", mode="eval").body, argument)
    assert isinstance(parse, ast.Call)
    parse.args = [argument.annotation]
    return evaluator.evaluate(ast.fix_missing_locations(parse), scope)


def defaults_of(
    function: ast.FunctionDef | ast.AsyncFunctionDef,
) -> list[tuple[ast.arg, ast.expr | None]]:
    """Return the parameters of a function, each with its default or None."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = len(positional) - len(arguments.defaults)
    pairs: list[tuple[ast.arg, ast.expr | None]] = list(
        zip(positional, [None] * missing + list(arguments.defaults), strict=True)
    )
    return pairs + list(zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True))


def _guessed(value: Any, annotation: ast.expr | None) -> Any:
    if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
        # fire reads a list whose names need no quotes
        value = [item.strip(" '\"") for item in value[1:-1].split(",") if item.strip()]
    if annotation is not None:
        return converted(value, annotation)
    if isinstance(value, str):  # fire and click convert what looks like a number
        for cast in (int, float):
            try:
                return cast(value)
            except ValueError:
                continue
    return value


def _typer_default(node: ast.expr | None) -> ast.expr | None:
    if isinstance(node, ast.Call) and unparse(node.func) in ("typer.Option", "typer.Argument"):
        if node.args:
            return node.args[0]
        return next((k.value for k in node.keywords if k.arg == "default"), None)
    return node


def _click_options(
    function: ast.FunctionDef, scope: Scope, evaluator: Evaluator
) -> Mapping[str, tuple[str, ast.expr | None]]:
    options: dict[str, tuple[str, ast.expr | None]] = {}
    for node in function.decorator_list:
        if not isinstance(node, ast.Call) or unparse(node.func) != "click.option":
            continue
        words = [evaluator.value(item, scope) for item in node.args]
        long = [w for w in words if isinstance(w, str) and w.startswith("--")]
        if long:
            name = long[0].lstrip("-").replace("-", "_")
            default = next((k.value for k in node.keywords if k.arg == "default"), None)
            options[name] = (name, default)
    return options


def is_command(function: ast.FunctionDef, calls: Iterable[str]) -> bool:
    """Tell whether typer, click, fire, fastcore or Hydra calls a function: by a decorator, or by `fire.Fire(main)`."""
    for node in function.decorator_list:
        name = unparse(node.func if isinstance(node, ast.Call) else node)
        is_named = name.rpartition(".")[2] in ("command", "call_parse") or name == "click.option"
        if is_named or _is_hydra(node) or _is_wrap(node):
            return True
    return any(call in calls for call in (f"{name}({function.name})" for name in RUNS))

"""The functions of a training script that typer, click, fire, fastcore or Hydra call, and what their parameters are here."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from preflight.scripts.python.argument_parsers import positional, underscored
from preflight.scripts.python.field_types import converted
from preflight.scripts.python.nodes import argument_of, keyword_of, unparse, walk
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
    options, places = _click_options(function, scope, evaluator)
    values: dict[str, Known] = {}
    rest = function.args.kwarg if options else None
    if not options and not places:
        places = [
            each.arg for each, default in defaults_of(function) if _is_positional(each, default)
        ]
    defaults = defaults_of(function)
    if scope.receiver:
        defaults, places = defaults[1:], []  # the word in front of its flags is its own name
    own = {argument.arg for argument, _ in defaults}
    if rest is not None:  # `def main(**kwargs)` catches the others
        caught = (ast.copy_location(ast.arg(name), rest) for name in options if name not in own)
        defaults = [*defaults, *((each, None) for each in caught)]
    for argument, default in defaults:
        name = argument.arg
        stated_words, stated = options.get(name, (_typer_words(argument, default), default))
        flags = _flags(stated_words) or [name]
        flag = flags[0]
        words = [positional(places.index(name))] if name in places else []
        given = flag_of([*flags, name, *words])
        place = Place("script", scope.path, argument.arg, argument.lineno)
        if given is not None:
            values[argument.arg] = Known(
                _guessed(given.value, argument.annotation), given.place, flag
            )
            continue
        node = _typer_default(stated)
        if flag_of(_switched_off(stated_words, flags)) is not None:
            values[name] = Known(False, place, flag)
            continue
        value = UNKNOWN if node is None else evaluator.value(node, scope)
        values[argument.arg] = Known(value, place, flag)
    if rest is not None:
        others = {name: known for name, known in values.items() if name not in own}
        place = Place("script", scope.path, rest.arg, rest.lineno)
        values = {name: values[name] for name in own} | {rest.arg: Known(others, place)}
    return values


RUNS = (
    "fire.Fire",
    "Fire",
    "typer.run",
    "tyro.cli",
    "jsonargparse.CLI",
    "jsonargparse.auto_cli",
    "CLI",
    "auto_cli",
)
"""What calls a function with the command line."""
OF_METHODS = ("fire.Fire", "Fire", "jsonargparse.CLI", "jsonargparse.auto_cli", "CLI", "auto_cli")
"""Those of them that take a class, whose methods are commands by their names."""
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


OF_TYPER = ("typer.Option", "typer.Argument", "Option", "Argument")


def _typer_calls(argument: ast.arg, default: ast.expr | None) -> list[ast.Call]:
    """Return what typer is told of a parameter, in its annotation or as its default."""
    told = walk(argument.annotation) if argument.annotation is not None else ()
    calls = (each for each in (*told, default) if isinstance(each, ast.Call))
    return [each for each in calls if unparse(each.func) in OF_TYPER]


def _is_positional(argument: ast.arg, default: ast.expr | None) -> bool:
    """Tell whether a word without a flag fills a parameter: one without a default, unless typer is told otherwise."""
    told = [unparse(each.func).rpartition(".")[2] for each in _typer_calls(argument, default)]
    return "Argument" in told or (default is None and "Option" not in told)


def _typer_words(argument: ast.arg, default: ast.expr | None) -> list[str]:
    """Return the flags that typer is told of a parameter, as they are written; empty where it is told none."""
    stated = (word for call in _typer_calls(argument, default) for word in call.args)
    texts = (each.value for each in stated if isinstance(each, ast.Constant))
    return [each for each in texts if isinstance(each, str) and each.startswith("-")]


def _flags(words: Iterable[str]) -> list[str]:
    """Return the names of some flags, long ones first: of `--tie/--untie` the first."""
    return [underscored(e.partition("/")[0]) for e in sorted(words, key=lambda e: e[:2] != "--")]


def _switched_off(words: Iterable[str], flags: Iterable[str]) -> list[str]:
    """Return the names of the flags that make a switch False: `--untie` of `--tie/--untie`, and typer's own `--no-tie`."""
    stated = [underscored(each.partition("/")[2]) for each in words if "/" in each]
    return stated or [f"no_{each}" for each in flags]


def _typer_default(node: ast.expr | None) -> ast.expr | None:
    if isinstance(node, ast.Call) and unparse(node.func) in OF_TYPER:
        return argument_of(node, 0, "default")
    return node


def _click_options(
    function: ast.FunctionDef, scope: Scope, evaluator: Evaluator
) -> tuple[Mapping[str, tuple[list[str], ast.expr | None]], list[str]]:
    """Return click's options by parameter, each with its flags and default, and the parameters that words without a flag fill."""
    options: dict[str, tuple[list[str], ast.expr | None]] = {}
    places: list[str] = []
    for node in function.decorator_list:
        called = unparse(node.func) if isinstance(node, ast.Call) else ""
        if not isinstance(node, ast.Call) or called not in ("click.option", "click.argument"):
            continue
        words = [w for w in (evaluator.value(e, scope) for e in node.args) if isinstance(w, str)]
        flags = [word for word in words if word.startswith("-")]
        named = [underscored(word) for word in words if not word.startswith("-")]
        if called == "click.argument":
            places += named[:1]
        elif flags:
            default = keyword_of(node, "default") or _unsaid(node)
            options[(named or _flags(flags))[0]] = (flags, default)
    return options, places


_GIVEN_OTHERWISE = frozenset({"required", "multiple", "nargs", "prompt", "callback", "envvar", "count", "flag_value"})  # fmt: skip


def _unsaid(option: ast.Call) -> ast.expr | None:
    """Return what an option of click's is without a default where no flag gives it: a switch is False, others None
    (click/core.py Option, 8.1); None where something else may give it."""
    told = {each.arg: each.value for each in option.keywords}
    if not _GIVEN_OTHERWISE.isdisjoint(each for each in told if each) or None in told:
        return None
    has_both = any("/" in unparse(word) for word in option.args)  # `--tie/--untie` is a switch
    switch = unparse(told.get("is_flag", ast.Constant(has_both)))
    held = {"True": False, "False": None}
    return ast.copy_location(ast.Constant(held[switch]), option) if switch in held else None


def entry_calls(
    node: ast.AST, words: Collection[str], around: Iterable[ast.AST] = ()
) -> Iterator[str]:
    """Yield a call that runs a function with the command line, as it is written; of `fire.Fire({"train": main})` that of the
    function whose name is among the words of the command, and of an object that a name of the file holds that of its making."""
    if not isinstance(node, ast.Call) or unparse(node.func) not in RUNS:
        return
    yield unparse(node)
    given = node.args[0] if node.args else keyword_of(node, "component")
    for key, value in (
        zip(given.keys, given.values, strict=True) if isinstance(given, ast.Dict) else ()
    ):
        if isinstance(key, ast.Constant) and key.value in words:
            yield f"{unparse(node.func)}({unparse(value)})"
    for each in around if isinstance(given, ast.Name) else ():
        if isinstance(each, ast.Assign) and unparse(given) in map(unparse, each.targets):
            yield f"{unparse(node.func)}({unparse(each.value)})"


def is_command(function: ast.FunctionDef, calls: Iterable[str], of_class: str = "") -> bool:
    """Tell whether typer, click, fire, fastcore or Hydra calls a function: by a decorator, or by `fire.Fire(main)`; a
    method of a class by `fire.Fire(App)`."""
    for node in function.decorator_list:
        name = unparse(node.func if isinstance(node, ast.Call) else node)
        is_named = name.rpartition(".")[2] in ("command", "call_parse") or name == "click.option"
        if is_named or _is_hydra(node) or _is_wrap(node):
            return True
    if of_class and function.name.startswith("_"):
        return False
    named = of_class or function.name
    runs = OF_METHODS if of_class else RUNS
    if any(f"{name}({named})" in calls for name in runs):
        return True
    of_fire = [call.partition("Fire(")[2] for call in calls if "Fire(" in call and "{" not in call]
    return any(re.search(rf"\b{named}\b", told) for told in of_fire)

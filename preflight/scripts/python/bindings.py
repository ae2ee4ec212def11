"""What the parameters of a script's functions hold: the values on which every call of a function agrees."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence

from preflight.scripts.python.commands import defaults_of
from preflight.scripts.python.nodes import keyword_of
from preflight.scripts.python.operators import is_same
from preflight.scripts.python.scope import UNKNOWN, Known, Scope
from preflight.scripts.python.settings_objects import entries_of
from preflight.scripts.python.values import Evaluator

MOST_PASSES = 4
"""Functions through which a value is handed on, where the inner one stands above the outer one in its file."""

Site = tuple[ast.Call, Scope]


def bind_parameters(
    functions: Mapping[str, Sequence[tuple[ast.FunctionDef, Scope]]],
    sites: Mapping[str, Sequence[Site]],
    evaluator: Evaluator,
) -> None:
    """Give every function the values of its arguments, as far as its calls say the same."""
    calls_of: dict[int, list[Site]] = {}
    defined: dict[int, tuple[ast.FunctionDef, Scope]] = {}
    for name, definitions in functions.items():
        if len(definitions) == 1 and name in sites and not definitions[0][1].parameters:
            key = id(definitions[0][1])  # several classes may be made by what one of them says
            defined[key] = definitions[0]
            calls_of.setdefault(key, []).extend(sites[name])
    called = [(*defined[key], calls) for key, calls in calls_of.items()]
    for _ in range(MOST_PASSES):
        is_settled = True
        for function, scope, calls in called:
            known = agreed([told_by(function, scope, call, evaluator) for call in calls])
            if not _are_same(known, scope.parameters):
                scope.parameters.clear()
                scope.parameters.update(known)
                evaluator.forget()
                is_settled = False
        if is_settled:
            return


def told_by(
    function: ast.FunctionDef, scope: Scope, site: Site, evaluator: Evaluator
) -> dict[str, Known]:
    """Return what one call gives a function, its defaults too."""
    call, outside = site
    places = places_of(function, scope)
    known = {*places, *(argument.arg for argument in function.args.kwonlyargs)}
    told: dict[str, Known] = {}
    given, is_open = _given(call, outside, evaluator)
    told.update(zip(places, given, strict=False))
    for keyword in call.keywords:
        if keyword.arg is None:  # **settings
            entries = entries_of([keyword.value], outside, evaluator)
            is_open = is_open or entries is None
            told.update((name, held) for name, held in (entries or {}).items() if name in known)
        elif keyword.arg in known:
            told[keyword.arg] = evaluator.evaluate(keyword.value, outside)
    for parameter, default in () if is_open else defaults_of(function):
        if parameter.arg not in told and default is not None:
            told[parameter.arg] = evaluator.evaluate(default, scope.outer or scope)
    return told


def _given(call: ast.Call, outside: Scope, evaluator: Evaluator) -> tuple[list[Known], bool]:
    """Return what a call gives by its place, and whether a `*` that is not known may add more."""
    given: list[Known] = []
    for node in call.args:
        if not isinstance(node, ast.Starred):
            given.append(evaluator.evaluate(node, outside))
            continue
        known = evaluator.evaluate(node.value, outside)
        if not isinstance(known.value, (list, tuple)):
            return given, True
        given += [
            each if isinstance(each, Known) else Known(each, known.place) for each in known.value
        ]
    return given, False


def handed(
    function: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope, site: Site, name: str
) -> tuple[ast.expr, Scope] | None:
    """Return what one call hands to a parameter, or its default, with the names around it; None where that is not read."""
    call, outside = site
    places = places_of(function, scope)
    named = keyword_of(call, name)
    if named is not None:
        return named, outside
    is_open = any(each.arg is None for each in call.keywords)
    if is_open or any(isinstance(each, ast.Starred) for each in call.args):
        return None
    if name in places and places.index(name) < len(call.args):
        return call.args[places.index(name)], outside
    default = {each.arg: node for each, node in defaults_of(function)}.get(name)
    return None if default is None else (default, outside)


def places_of(function: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> list[str]:
    """Return the parameters that a call fills by their place: none for what a method is called on, or a constructor makes."""
    places = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return places[places[:1] == [scope.receiver or "self"] :]


def agreed(calls: Sequence[Mapping[str, Known]]) -> dict[str, Known]:
    """Return what every call says alike; UNKNOWN where two say different things."""
    alike = dict(calls[0])
    for name in {name for call in calls for name in call}:
        said = [call[name] for call in calls if name in call]
        if len(said) < len(calls) or not _all_same(said):
            alike[name] = Known(UNKNOWN, said[0].place)
    return alike


def _all_same(said: Iterable[Known]) -> bool:
    first, *others = said
    return all(is_same(first.value, other.value) for other in others)


def _are_same(one: Mapping[str, Known], other: Mapping[str, Known]) -> bool:
    return one.keys() == other.keys() and all(_all_same((one[name], other[name])) for name in one)

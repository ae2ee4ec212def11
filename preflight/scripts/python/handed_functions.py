"""What functions of a script are called with where a library calls them: `rows.map(encode, fn_kwargs={"length": 512})`.

A call inside a lambda is one of these too: what the lambda is given is not known, all else that it hands on is.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from preflight.scripts.python.files import CallFound
from preflight.scripts.python.nodes import last_name, names_in, walk
from preflight.scripts.python.scope import Scope

OF_ROWS = frozenset({"map", "filter", "with_transform", "set_transform"})
"""Methods of a dataset that call a function with a row, or a batch of them (datasets/arrow_dataset.py, 5.2)."""
OF_BATCHES = ("data_collator", "collate_fn")
"""Arguments of a trainer and of a loader that are given what makes a batch of rows."""
_WITH = ("with_indices", "with_rank")
_GIVEN = ast.Name("<given>", ast.Load())
"""What a library hands over: no name of a script."""


def handed_calls(calls: Iterable[CallFound]) -> Iterator[CallFound]:
    """Yield the calls, as a script would write them, by which libraries call functions that some calls hand over."""
    for found in calls:
        node, scope = found.node, found.scope
        for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
            if isinstance(argument, ast.Lambda):
                yield from _within(argument, scope)
        told = {keyword.arg: keyword.value for keyword in node.keywords}
        if found.name in OF_ROWS and isinstance(node.func, ast.Attribute):
            function = function_of_rows(node)
            given = [_GIVEN] * (1 + sum(name in told for name in _WITH))
            yield from _called(function, given, told.get("fn_kwargs"), scope)
        elif found.name == "from_generator":
            function = next(iter(node.args), told.get("generator"))
            yield from _called(function, [], told.get("gen_kwargs"), scope)
        elif isinstance(node.func, ast.Name):
            yield from _bound(node, node.func, scope)
        for name in OF_BATCHES:
            yield from _called(told.get(name), [_GIVEN], None, scope)


def function_of_rows(call: ast.Call) -> ast.expr | None:
    """Return what a method of OF_ROWS is given to call; None where it is given nothing."""
    told = (k.value for k in call.keywords if k.arg in ("function", "transform"))
    return next(iter((*call.args, *told)), None)


def _called(
    function: ast.expr | None, given: list[ast.Name], more: ast.expr | None, scope: Scope
) -> Iterator[CallFound]:
    """Yield the call of a function, or of one that `partial` binds, with what is given and the entries of a dict."""
    if isinstance(function, ast.Name):
        bound = scope.assigned.get(function.id, ())
        if len(bound) == 1 and isinstance(bound[0], ast.Call):
            function = bound[0]
    arguments: list[ast.expr] = []
    keywords = [ast.keyword(None, more)] if more is not None else []
    if isinstance(function, ast.Call) and last_name(function.func) == "partial" and function.args:
        arguments, keywords = function.args[1:], [*function.keywords, *keywords]
        function = function.args[0]
    if isinstance(function, (ast.Name, ast.Attribute)):
        yield _call(function, [*arguments, *given], keywords, scope)


def _bound(node: ast.Call, name: ast.Name, scope: Scope) -> Iterator[CallFound]:
    """Yield the call of the function of which `partial` made what a call names."""
    holder = scope.holder(name.id)
    made = [] if holder is None else holder.assigned.get(name.id, [])
    partial = made[0] if len(made) == 1 and isinstance(made[0], ast.Call) else None
    if partial is None or last_name(partial.func) != "partial" or not partial.args:
        return
    given = {each.arg for each in node.keywords}
    keywords = [each for each in partial.keywords if each.arg not in given]
    arguments = [*partial.args[1:], *node.args]
    yield _call(partial.args[0], arguments, [*keywords, *node.keywords], scope)


def _within(given: ast.Lambda, scope: Scope) -> Iterator[CallFound]:
    """Yield the calls inside a lambda, without what it is called with."""
    own = {argument.arg for argument in given.args.args}
    for node in walk(given.body):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            arguments = [_without(each, own) for each in node.args]
            keywords = [ast.keyword(k.arg, _without(k.value, own)) for k in node.keywords]
            yield _call(node.func, arguments, keywords, scope)


def _without(node: ast.expr, own: set[str]) -> ast.expr:
    if own.isdisjoint(names_in(node)):
        return node
    return ast.Starred(_GIVEN, ast.Load()) if isinstance(node, ast.Starred) else _GIVEN


def _call(
    function: ast.expr, arguments: list[ast.expr], keywords: list[ast.keyword], scope: Scope
) -> CallFound:
    node = ast.Call(function, arguments, keywords)
    ast.copy_location(node, function)
    for keyword in keywords:
        ast.copy_location(keyword, function)
    ast.fix_missing_locations(node)
    return CallFound(last_name(function), node, scope)

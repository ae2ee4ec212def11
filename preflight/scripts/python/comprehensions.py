"""What `[word.strip() for word in flag.split(",")]` and `{k: v for k, v in given.items() if v is not None}` give."""

from __future__ import annotations

import ast

from preflight.scripts.python.names import Names
from preflight.scripts.python.scope import UNKNOWN, Known, Scope, bare
from preflight.setting import Place

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
_MOST_ITEMS = 256
_OF_DICT = ("items", "keys", "values")


def comprehended(names: Names, node: Comprehension, scope: Scope, depth: int) -> object:
    """Return the list or dict that a loop over something known gives; of an entry that may be left out, that it is not known."""
    if len(node.generators) != 1:
        return UNKNOWN
    loop = node.generators[0]
    items = _items(names, loop.iter, scope, depth)
    targets = loop.target.elts if isinstance(loop.target, ast.Tuple) else [loop.target]
    own = [each.id for each in targets if isinstance(each, ast.Name)]
    if items is None or len(items) > _MOST_ITEMS or len(own) < len(targets) or loop.is_async:
        return UNKNOWN
    made: list[tuple[object, object]] = []
    for item in items:
        values = item if isinstance(loop.target, ast.Tuple) else (item,)
        if not isinstance(values, (tuple, list)) or len(values) != len(own):
            return UNKNOWN
        inner = Scope(scope.path, outer=scope)
        names.inner_scopes.append(inner)
        here = Place("script", scope.path, "", node.lineno)
        for name, value in zip(own, values, strict=True):
            inner.parameters[name] = value if isinstance(value, Known) else Known(value, here)
        tests = [names.value(each, inner, depth) for each in loop.ifs]
        if any(test is not UNKNOWN and not test for test in tests):
            continue
        if isinstance(node, ast.DictComp):
            known = names.evaluate(node.value, inner, depth)
            held = known if known.flag and known.value is not UNKNOWN else known.value
            value = UNKNOWN if UNKNOWN in tests else held  # a flag says what it is
            made.append((names.value(node.key, inner, depth), value))
        else:
            made.append(
                (None, UNKNOWN if UNKNOWN in tests else names.value(node.elt, inner, depth))
            )
    if isinstance(node, ast.DictComp):
        are_names = all(isinstance(key, (str, int)) for key, _ in made)
        return dict(made) if are_names else UNKNOWN
    return UNKNOWN if any(value is UNKNOWN for _, value in made) else [value for _, value in made]


def _items(names: Names, node: ast.expr, scope: Scope, depth: int) -> list[object] | None:
    """Return what a loop runs over; None where that is not known."""
    func = node.func if isinstance(node, ast.Call) and not node.args else None
    if isinstance(func, ast.Attribute) and func.attr in _OF_DICT:
        held = names.value(func.value, scope, depth)
        if not isinstance(held, dict):
            return None
        return list(getattr(held, func.attr)())
    held = names.value(node, scope, depth)
    return [*map(bare, held)] if isinstance(held, (list, tuple, dict)) else None

"""Functions of a script that give the names of all linear layers of a model, of which many a QLoRA script has a copy.

They walk `model.named_modules()`, keep the last part of the name of every layer of some linear class, and leave the head
out: what PEFT's `target_modules="all-linear"` finds (peft/tuners/tuners_utils.py _maybe_include_all_linear_layers, 0.21).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from preflight.scripts.python.names import MAX_DEPTH
from preflight.scripts.python.nodes import last_name, unparse, walk
from preflight.scripts.python.reader import ScriptReader
from preflight.scripts.python.scope import Scope

_LINEAR = frozenset({"Linear", "Linear4bit", "Linear8bitLt"})
"""torch's class and the two of bitsandbytes that stand on it (bitsandbytes/nn/modules.py, 0.37 to 0.49)."""
_HEAD = "lm_head"
_KEEPS = frozenset({"list", "set", "sorted", "tuple"})
_LOOPS = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)
_LEAVES = (ast.If, ast.Continue, ast.Break, ast.Return)


def gives_linear_names(reader: ScriptReader, node: ast.expr, scope: Scope) -> bool:
    """Tell whether an expression is what such a function of the script's own gives back."""
    made = reader.only_call(node, scope)
    for _ in range(MAX_DEPTH):
        if made is not None and made.name in _KEEPS:
            made = reader.only_call(next(iter(made.node.args), None), made.scope)
    if made is None:
        return False
    held = reader.meant_by(made.node, made.scope)
    return len(held) == 1 and _walks_all(held[0][0].body)


def _walks_all(body: Sequence[ast.stmt]) -> bool:
    """Tell whether the one loop of a function keeps the name of every linear layer, and nothing but the head is left out."""
    every = [node for statement in body for node in walk(statement)]
    loops = [node for node in every if isinstance(node, _LOOPS)]
    loop = next((part for part in body if isinstance(part, ast.For)), None)
    if loop is None or len(loops) > 1 or not isinstance(loop.iter, ast.Call):
        return False
    inside = [node for part in loop.body for node in walk(part)]
    tests = [node for node in inside if isinstance(node, _LEAVES)]
    if last_name(loop.iter.func) != "named_modules" or len(tests) != 1:
        return False
    (test,) = tests
    classes = _classes(test.test, every) if isinstance(test, ast.If) and not test.orelse else set()
    behind = [node for part in body[body.index(loop) + 1 :] for node in walk(part)]
    words = {each.value for each in (*inside, *behind) if isinstance(each, ast.Constant)}
    names = {each for each in words if isinstance(each, str) and each != "."}
    return bool(classes) and classes <= _LINEAR and names == {_HEAD}


def _classes(test: ast.expr, every: Sequence[ast.AST]) -> set[str]:
    """Return the classes of which a condition wants one; none of a condition that wants anything else but another name than
    the head's."""
    parts = test.values if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And) else [test]
    asked = [part for part in parts if _HEAD not in unparse(part)]
    if len(asked) != 1 or not isinstance(asked[0], ast.Call):
        return set()
    if last_name(asked[0].func) != "isinstance" or len(asked[0].args) != 2:
        return set()
    kind = asked[0].args[1]
    assigned = (node for node in every if isinstance(node, ast.Assign))
    written = [each.value for each in assigned if unparse(each.targets[0]) == unparse(kind)]
    return {last_name(each) for node in written or [kind] for each in _ways(node)}


def _ways(node: ast.expr) -> Iterator[ast.expr]:
    """Yield what an expression may be: each way of `a if b else c`, and each of several."""
    if isinstance(node, ast.IfExp):
        yield from (*_ways(node.body), *_ways(node.orelse))
    elif isinstance(node, (ast.Tuple, ast.List)):
        yield from (each for part in node.elts for each in _ways(part))
    else:
        yield node

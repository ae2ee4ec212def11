"""What a step of somebody's own takes its gradient of: the loss that the model gives back, which the estimate counts, or
one that the script makes of the model's outputs.

A name is followed through the step as far as it only looks at the same numbers.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard, cast

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import children, given_to, last_name, unparse, walk
from preflight.scripts.python.without_graph import runs_without_graph
from preflight.unpriced_names import NARROW_LOSS, OWN_LOSS
from preflight.values import NamedTuple

MODEL = lazy_pattern(
    r"^(?:\w+\.)*(?!_*(?:save|load|get|unwrap|create|build|push|export|log|is|has|use|with|prepare|contains|init|setup|make)_)\w*model(?:_engine)?$"
    r"|^(?:\w+\.)*(?:policy|net|engine)$"
)
"""Names that a step calls its model by; `save_model(model, step)` is none."""
GIVEN = lazy_pattern(rf"{MODEL.pattern}|(?:self|super\(.*\))\.(?:compute_loss|training_step)$")
"""The model, and methods of a trainer that hand it what they are given."""
_LOGITS = ("logits", "last_hidden_state")
_IS_NONE = frozenset(
    {"shape", "dtype", "device", "loss", "size", "argmax", "detach", "item", "topk"}
)
"""What is taken of an output without its numbers and their graph: the model's own loss, what is shown."""
_LOOKS_ALIKE = frozenset({"view", "reshape", "flatten", "squeeze", "unsqueeze", "transpose", "permute", "rearrange"})  # fmt: skip
_COPIES = {"float": "cast", "to": "cast", "type": "cast", "contiguous": "copy", "clone": "copy"}
_CROSS_ENTROPIES = frozenset({"cross_entropy", "CrossEntropyLoss"})
_SHOWS = frozenset({"print", "len", "gather_for_metrics"})
_HANDS_ON = lazy_pattern(r"Output(?:With\w+)?$")
"""Classes of what a model gives back, `CausalLMOutputWithPast(loss=loss, logits=logits)`."""
_KEEPS = (ast.Compare, ast.BoolOp, ast.JoinedStr, ast.FormattedValue, ast.Tuple, ast.List, ast.Dict)
"""Expressions that look at a value or hand it on beside others, as `return loss, outputs` does."""
_MOST_STATEMENTS = 2_000
_MOST_CALLS = 3


def runs_model(node: ast.AST) -> TypeGuard[ast.Call]:
    """Tell whether a node is a forward pass: `model(**rows)`, `model.module.forward(rows)`."""
    return isinstance(node, ast.Call) and MODEL.match(_callee(node)) is not None


def hands_to_model(node: ast.AST) -> TypeGuard[ast.Call]:
    """Tell whether a node is a forward pass, or calls a method of a trainer that makes one."""
    return isinstance(node, ast.Call) and GIVEN.match(_callee(node)) is not None


def _callee(call: ast.Call) -> str:
    """Return what a call runs: `model` of `model.module.forward(**rows)`."""
    name = unparse(call.func).removesuffix(".forward").removesuffix(".__call__")
    return name.removesuffix(".module")


def own_losses(body: Sequence[ast.stmt], file: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield what the loss of one step is, with its line, where it is not the model's own.

    `body` is the step, `file` the nodes of all of its file: its functions, and what holds a CrossEntropyLoss.
    """
    functions = {node.name: node for node in file if isinstance(node, ast.FunctionDef)}
    file_of_step = _File(_CROSS_ENTROPIES | {*_holders(file)}, functions)
    found: dict[str, int] = {}
    for name, line in _judged(body, {}, file_of_step, 0):
        found.setdefault(name, line)
    if OWN_LOSS in found:
        found.pop(NARROW_LOSS, None)
    yield from found.items()


class _File(NamedTuple):
    losses: frozenset[str]
    """Names of what takes the cross entropy of its first argument."""
    functions: Mapping[str, ast.FunctionDef]


def _judged(
    body: Sequence[ast.stmt], held: dict[str, frozenset[str]], file: _File, depth: int
) -> Iterator[tuple[str, int]]:
    """Yield what becomes of the numbers of the model in a block; `held` is name -> what was made of them before."""
    for statement in _simple(body):
        above = {id(c): node for node in walk(statement) for c in children(node)}
        passed: frozenset[str] | None = None
        for node in walk(statement):
            before = _before(node, held)
            if before is None:
                continue
            made, end = _followed(node, above, file.losses)
            made |= before
            called = _called(end, file, depth)
            if called is not None:
                name = _parameter(called, cast(ast.Call, end), node)
                yield from _judged(called.body, {name: made}, file, depth + 1)
            elif end == "passed":
                passed = made
            elif isinstance(end, ast.AST) or (end == "loss" and made >= {"cast", "copy"}):
                yield OWN_LOSS, statement.lineno
            elif end == "loss" and "cast" not in made:
                yield NARROW_LOSS, statement.lineno
        for name in _targets(statement):
            held.pop(name, None)
            if passed is not None and "loss" not in name.lower():
                held[name] = passed


def _called(end: str | ast.AST, file: _File, depth: int) -> ast.FunctionDef | None:
    """Return the function of the file that a value is handed to; None where it is handed to something else."""
    if not isinstance(end, ast.Call) or depth >= _MOST_CALLS:
        return None
    return file.functions.get(last_name(end.func))


def _parameter(function: ast.FunctionDef, call: ast.Call, node: ast.AST) -> str:
    """Return the parameter that takes an argument of a call."""
    for name, given in given_to(function, call).items():
        if any(inner is node for inner in walk(given)):
            return name
    return ""


def _before(node: ast.AST, held: Mapping[str, frozenset[str]]) -> frozenset[str] | None:
    """Return what was made of the numbers that a node takes from the model; None where it takes none."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        return held.get(node.id)
    is_logits = isinstance(node, ast.Attribute) and node.attr in _LOGITS
    return frozenset() if runs_model(node) or is_logits else None


def _followed(
    node: ast.AST, above: Mapping[int, ast.AST], losses: frozenset[str]
) -> tuple[frozenset[str], str | ast.AST]:
    """Return what a statement makes of a value, and where it ends: passed on, a loss, nothing, or what else is made of it."""
    made: set[str] = set()
    while isinstance(parent := above.get(id(node)), (ast.expr, ast.keyword)):
        if isinstance(parent, ast.Attribute):
            if parent.attr in _IS_NONE:
                return frozenset(made), "nothing"
        elif isinstance(parent, ast.Subscript):
            if isinstance(parent.slice, ast.Constant) and parent.slice.value in (0, "loss"):
                return frozenset(made), "nothing"  # the first output is the loss
        elif isinstance(parent, ast.Call):
            func = parent.func.func if isinstance(parent.func, ast.Call) else parent.func
            name = last_name(func)
            if name in losses:
                return frozenset(made), "loss"
            if name in _IS_NONE or name in _SHOWS or _HANDS_ON.search(name):
                return frozenset(made), "nothing"
            if name in _COPIES:
                made.add(_COPIES[name])
            elif name not in _LOOKS_ALIKE:
                return frozenset(made), parent
        elif isinstance(parent, _KEEPS) or _joins_tuples(parent):
            return frozenset(made), "nothing"
        elif not isinstance(parent, (ast.IfExp, ast.Starred, ast.keyword)):
            return frozenset(made), parent
        node = parent
    is_passed = isinstance(parent, (ast.Assign, ast.AnnAssign)) and parent.value is node
    return frozenset(made), "passed" if is_passed else "nothing"


def _joins_tuples(node: ast.AST) -> bool:
    """Tell whether an expression hands values on beside others: `(loss,) + outputs[1:]`."""
    return isinstance(node, ast.BinOp) and ast.Tuple in (type(node.left), type(node.right))


def _targets(statement: ast.stmt) -> Iterator[str]:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]  # fmt: skip
    for target in targets:
        for each in getattr(target, "elts", (target,)):
            if isinstance(each, ast.Name):
                yield each.id


def _holders(file: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names and attributes that hold a CrossEntropyLoss, and nothing else."""
    for node in file:
        made = node.value if isinstance(node, ast.Assign) else None
        if isinstance(node, ast.Assign) and isinstance(made, ast.Call):
            yield from [last_name(node.targets[0])] * (last_name(made.func) in _CROSS_ENTROPIES)


def _simple(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a step in order, those inside others for them; none that runs without a graph."""
    waiting = list(reversed(body))
    for _ in range(_MOST_STATEMENTS):
        if not waiting:
            return
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if isinstance(node, (ast.With, ast.AsyncWith)) and runs_without_graph(node):
            continue
        parts = [getattr(node, name, ()) for name in ("body", "orelse", "finalbody")]
        parts += [handler.body for handler in getattr(node, "handlers", ())]
        inner = [each for part in parts for each in part]
        if inner:
            waiting += reversed(inner)
        else:
            yield node


def takes_pairs(node: ast.AST) -> bool:
    """Tell whether an expression takes every second row, or one half of the rows."""
    if isinstance(node, ast.Slice):
        return is_two(node.step)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.FloorDiv):
        return is_two(node.right)
    if not isinstance(node, ast.Call):
        return False
    name = last_name(node.func)
    is_step = name == "arange" and len(node.args) > 2 and is_two(node.args[2])
    return is_step or (name == "chunk" and bool(node.args) and is_two(node.args[0]))


def is_two(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value == 2

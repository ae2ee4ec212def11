"""What a training loop of a script's own does beside its step: a model that every round makes again,
rows that it grows, graphs of several rounds.

`trainer` and `optimizer` of the round before are given up when their names are given to others, which is when the next
model is there already. What a function made is let go when it returns: counted on Trainer of transformers 5.24, whose
circles of references Python had collected by the next round's first step.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import hands_to_model
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.flow import takes_gradient, trains
from preflight.scripts.python.leading import leading_to
from preflight.scripts.python.nodes import last_name, names_in, root_of, unparse, walk
from preflight.unpriced_names import GRAPHS, GROWN, MADE_AGAIN

_LOADS = frozenset({"from_pretrained", "from_config", "SentenceTransformer", "CrossEncoder"})
_NO_MODEL = lazy_pattern(r"Token|Config|Process|Extractor|Peft")


def made_again(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield the loops of a file that load a model and train it, each with its line, where nothing in them is deleted."""
    for loop in nodes:
        if not isinstance(loop, (ast.For, ast.While)) or not trains(loop.body):
            continue
        inside = list(walk_block(loop.body))
        loads = any(isinstance(each, ast.Assign) and _loads(each.value) for each in inside)
        if loads and not any(isinstance(each, ast.Delete) for each in inside):
            yield MADE_AGAIN, loop.lineno


def _loads(node: ast.expr) -> bool:
    """Tell whether an expression loads a model: a method of its class, and of no tokenizer's."""
    if not isinstance(node, ast.Call):
        return False
    return last_name(node.func) in _LOADS and _NO_MODEL.search(unparse(node.func)) is None


_GROWS = frozenset(
    {"repeat", "repeat_interleave", "tile", "expand", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "pad"}
)  # fmt: skip
"""Functions and methods of tensors that give more than they get; of an `expand`, the model makes more."""
_FOLDS = frozenset({"view", "reshape", "flatten"})
"""Methods that make rows of groups of rows, where they are given two sizes: `ids.view(-1, ids.size(-1))`."""


def grown_rows(own: Sequence[ast.AST], growing: Container[str] = ()) -> Iterator[tuple[str, int]]:
    """Yield where a step grows what it gives its model, each with its line; `own` are the nodes of the step, `growing` the
    functions that return more rows than they are given."""
    forwards = filter(hands_to_model, own)
    given = [part for call in forwards for part in (*call.args, *(k.value for k in call.keywords))]
    for value in _grown(given, own, growing):
        yield GROWN, value.lineno


def grows_what_it_returns(function: ast.FunctionDef) -> bool:
    """Tell whether a function returns what it makes longer, or more of: `return {k: v.repeat(4, 1) for k, v in rows.items()}`.

    One that stacks rows makes a batch of them.
    """
    own = list(walk_block(function.body))
    ends = [each.value for each in own if isinstance(each, ast.Return) and each.value]
    calls = [
        node for value in _grown(ends, own) for node in walk(value) if isinstance(node, ast.Call)
    ]
    return any(_grows(call) and last_name(call.func) != "stack" for call in calls)


def _grown(
    ends: Sequence[ast.expr], own: Sequence[ast.AST], growing: Container[str] = ()
) -> Iterator[ast.expr]:
    """Yield which expressions of a block grow a tensor, of some and of those that lead to them."""
    for value in leading_to(ends, own):
        calls = [node for node in walk(value) if isinstance(node, ast.Call)]
        if any(_grows(call) or last_name(call.func) in growing for call in calls):
            yield value


def graphs_of_rounds(loop: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield where a loop adds up or keeps losses whose gradient it takes in some rounds alone, with its line: `total +=
    loss` or `losses.append(loss)`, and `if step % 8 == 7: total.backward()`."""
    if not isinstance(loop, (ast.For, ast.While)):
        return
    branches = [each for each in loop.body if isinstance(each, ast.If) and not _is_always(each)]
    seldom = [node for part in (*branches, *_behind_rounds(loop.body)) for node in walk(part)]
    backwards = [node for node in seldom if takes_gradient([node])]
    within = {id(node) for node in seldom}
    taken = _gone_back(backwards, seldom)
    every_round = (
        [each for each in walk_block(loop.body) if id(each) not in within] if taken else []
    )
    taken -= {
        root_of(n.targets[0]) for n in every_round if isinstance(n, ast.Assign) and not _adds_to(n)
    }
    for node in every_round:
        if _adds_to(node) in taken:
            yield GRAPHS, getattr(node, "lineno", loop.lineno)


def _behind_rounds(body: Sequence[ast.stmt]) -> Sequence[ast.stmt]:
    """Return the statements that a loop leaves out in some rounds: those behind `if step % 8 != 7: continue`."""
    for place, each in enumerate(body, 1):
        if isinstance(each, ast.If) and isinstance(each.body[-1], ast.Continue):
            return body[place:]
    return ()


def _is_always(branch: ast.If) -> bool:
    """Tell whether either way of a condition takes the gradient: with a scaler, or without."""
    return all(takes_gradient(walk_block(way)) for way in (branch.body, branch.orelse))


def _gone_back(backwards: Sequence[ast.AST], block: Sequence[ast.AST]) -> set[str]:
    """Return the names of which gradients are taken, and of those that they are made of in a block."""
    calls = [node for node in backwards if isinstance(node, ast.Call)]
    return {name for value in leading_to(calls, block) for name in names_in(value)}


_LET_GO = frozenset({"item", "detach", "float", "tolist", "numpy", "len"})
"""Functions and methods of a loss that give back a number without its graph."""


def _adds_to(node: ast.AST) -> str:
    """Return the name to which a statement adds: `total += loss`, `total = total + loss`, `losses.append(loss)`."""
    if isinstance(node, ast.Call) and last_name(node.func) == "append" and node.args:
        calls = (each for each in walk(node.args[0]) if isinstance(each, ast.Call))
        is_number = any(last_name(each.func) in _LET_GO for each in calls)
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        return "" if is_number else root_of(owner)
    if isinstance(node, ast.AugAssign):
        return root_of(node.target) if isinstance(node.op, ast.Add) else ""
    if not isinstance(node, ast.Assign):
        return ""
    name, parts = root_of(node.targets[0]), walk(node.value)
    is_sum = any(isinstance(each, ast.BinOp) and isinstance(each.op, ast.Add) for each in parts)
    return name if is_sum and name in names_in(node.value) else ""


_PREPARES = lazy_pattern(r"^(?:_prepare_inputs?|get_batch_samples)$")
"""Methods by which a Trainer takes its rows to a step (transformers/trainer.py, 5.24.0)."""


def grown_batch(method: ast.FunctionDef) -> Iterator[tuple[str, int]]:
    """Yield where a method by which a Trainer takes its rows to a step makes more of them, with its line."""
    for node in walk(method) if _PREPARES.match(method.name) else ():
        if isinstance(node, ast.Call) and _grows(node):
            yield GROWN, node.lineno


def _grows(call: ast.Call) -> bool:
    name = last_name(call.func)
    sizes = call.args[0].elts if call.args and isinstance(call.args[0], ast.Tuple) else call.args
    grows = name in _GROWS or (name in _FOLDS and len(sizes) > 1)
    is_position = len(sizes) > 1 and _COUNTS.search(unparse(call.func)) is not None
    return grows and not is_position


_COUNTS = lazy_pattern(r"^torch\.arange\(")
"""What positions are made by, `torch.arange(n).unsqueeze(0).expand(rows, -1)`: as many as there are tokens."""

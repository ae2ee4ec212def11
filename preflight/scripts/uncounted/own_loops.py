"""What a training loop of a script's own does beside its step: a model that every round makes again, a tensor of every
parameter that it keeps, rows that it grows.

`trainer` and `optimizer` of the round before are given up when their names are given to others, which is when the next
model is there already. What a function made is let go when it returns: counted on Trainer of transformers 5.24, whose
circles of references Python had collected by the next round's first step.
"""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import MODEL
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.flow import takes_gradient, trains
from preflight.scripts.python.nodes import last_name, names_in, root_of, unparse, walk
from preflight.scripts.python.operators import applied
from preflight.scripts.python.scope import UNKNOWN
from preflight.unpriced_names import GRAPHS, GROWN, KEPT_OF_EACH, LARGE, MADE_AGAIN

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


_OVER_PARAMETERS = lazy_pattern(r"\b(?:named_)?parameters\(\)|\bstate_dict\(\)")
_SAME_SHAPE = frozenset(
    {"data", "grad", "detach", "clone", "float", "half", "bfloat16", "to", "abs", "pow", "square"}
)
_NEW = _SAME_SHAPE - {"data", "grad", "detach", "to"}
"""Methods of a tensor that make another one as large."""


def kept_of_each(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a loop over a model's parameters keeps a tensor of each on the device, with its line: averages of the
    weights, squares of gradients, the weights as they were."""
    for loop in nodes:
        if not isinstance(loop, ast.For) or not _OVER_PARAMETERS.search(unparse(loop.iter)):
            continue
        names = {*names_in(loop.target)}
        made: set[str] = set()
        for node in walk_block(loop.body):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                made |= {node.targets[0].id} if _is_new_here(node.value, names) else set()
            value = _kept(node)
            is_made = isinstance(value, ast.Name) and value.id in made
            if value is not None and (is_made or _is_new_here(value, names)):
                yield KEPT_OF_EACH, getattr(node, "lineno", loop.lineno)


def _kept(node: ast.AST) -> ast.expr | None:
    """Return what a statement puts into a dictionary or a list."""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        return node.value
    is_appended = isinstance(node, ast.Call) and last_name(node.func) == "append"
    return node.args[0] if isinstance(node, ast.Call) and is_appended and node.args else None


def _is_new_here(value: ast.expr, names: Container[str]) -> bool:
    """Tell whether an expression makes a tensor as large as one of some names, and no copy of it in host memory."""
    return "cpu" not in unparse(value) and _is_new(value, names)


def _is_new(value: ast.expr, names: Container[str]) -> bool:
    """Tell whether an expression makes a tensor as large as one of some names."""
    if isinstance(value, ast.BinOp):
        sides = (value.left, value.right)
        return any(_is_new(side, names) or _methods(side, names) is not None for side in sides)
    if isinstance(value, ast.Call) and last_name(value.func).endswith("_like") and value.args:
        return _methods(value.args[0], names) is not None
    return bool(_NEW.intersection(_methods(value, names) or ()))


def _methods(node: ast.expr, names: Container[str]) -> list[str] | None:
    """Return the attributes and methods by which an expression leads from one of some names to a tensor as large."""
    found = []
    while not isinstance(node, ast.Name):
        node = node.func if isinstance(node, ast.Call) else node
        if not isinstance(node, ast.Attribute) or node.attr not in _SAME_SHAPE:
            return None
        found.append(node.attr)
        node = node.value
    return found if node.id in names else None


_MAKES = frozenset({"empty", "zeros", "ones", "full", "rand", "randn"})
_ON_CARD = lazy_pattern(r"cuda|device\b|rank|\.to\(")
LARGE_FROM = 2**26
"""Numbers that a tensor has from which on it is named: 64 MiB of bytes, 256 MiB of fp32."""


def large_tensors(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a file makes a large tensor of plain numbers on the device, with its line: `torch.empty(2**30,
    device="cuda")`, a buffer or a placeholder."""
    for node in nodes:
        if not isinstance(node, (ast.Assign, ast.Expr)) or not isinstance(node.value, ast.Call):
            continue
        for call in walk(node.value) if _ON_CARD.search(unparse(node.value)) else ():
            if isinstance(call, ast.Call) and last_name(call.func) in _MAKES:
                sizes = call.args[0].elts if call.args and isinstance(call.args[0], (ast.Tuple, ast.List)) else call.args  # fmt: skip
                if _numbers(sizes) >= LARGE_FROM:
                    yield LARGE, node.lineno


def _numbers(sizes: Sequence[ast.expr]) -> int:
    """Return how many numbers a tensor of some sizes has; 0 where one is no plain number."""
    product: object = 1 if sizes else 0
    for size in sizes:
        product = applied(ast.Mult, product, _plain(size))
    return product if isinstance(product, int) else 0


def _plain(node: ast.expr) -> object:
    """Return what numbers and operators alone say: `4096`, `10 * 2**30`."""
    if isinstance(node, ast.BinOp):
        return applied(type(node.op), _plain(node.left), _plain(node.right))
    return node.value if isinstance(node, ast.Constant) else UNKNOWN


_GROWS = frozenset(
    {"repeat", "repeat_interleave", "tile", "expand", "cat", "concat", "concatenate", "stack", "hstack", "vstack", "pad"}
)  # fmt: skip
"""Functions and methods of tensors that give more than they get; of an `expand`, the model makes more."""
_FOLDS = frozenset({"view", "reshape", "flatten"})
"""Methods that make rows of groups of rows, where they are given two sizes: `ids.view(-1, ids.size(-1))`."""


_GIVEN = lazy_pattern(rf"{MODEL.pattern}|(?:self|super\(.*\))\.(?:compute_loss|training_step)$")
"""The model, and methods of a trainer that hand it what they are given."""


def grown_rows(own: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a step grows what it gives its model, each with its line; `own` are the nodes of the step."""
    forwards = [n for n in own if isinstance(n, ast.Call) and _GIVEN.match(unparse(n.func))]
    given = [part for call in forwards for part in (*call.args, *(k.value for k in call.keywords))]
    names = {node.id for part in given for node in walk(part) if isinstance(node, ast.Name)}
    made = [
        node.value
        for node in own
        if isinstance(node, ast.Assign) and root_of(node.targets[0]) in names
    ]
    for value in (*given, *made):
        if any(isinstance(node, ast.Call) and _grows(node) for node in walk(value)):
            yield GROWN, value.lineno


def graphs_of_rounds(loop: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield where a loop adds up or keeps losses whose gradient it takes in some rounds alone, with its line: `total +=
    loss` or `losses.append(loss)`, and `if step % 8 == 7: total.backward()`."""
    if not isinstance(loop, (ast.For, ast.While)):
        return
    branches = [each for each in loop.body if isinstance(each, ast.If) and not _is_always(each)]
    seldom = [node for part in branches for node in walk(part)]
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


def _is_always(branch: ast.If) -> bool:
    """Tell whether either way of a condition takes the gradient: with a scaler, or without."""
    return all(takes_gradient(walk_block(way)) for way in (branch.body, branch.orelse))


def _gone_back(backwards: Sequence[ast.AST], block: Sequence[ast.AST]) -> set[str]:
    """Return the names of which gradients are taken, and of those that they are made of in a block."""
    taken = {name for call in backwards for name in names_in(call)}
    for node in block:
        if isinstance(node, ast.Assign) and root_of(node.targets[0]) in taken:
            taken.update(names_in(node.value))
    return taken


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
    return name in _GROWS or (name in _FOLDS and len(sizes) > 1)

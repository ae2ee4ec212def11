"""What a training loop keeps on the device beside its step: tensors of every parameter, outputs of its model, large ones of its own."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator, Mapping, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.own_losses import MODEL, runs_model
from preflight.scripts.python.assignments import walk_block
from preflight.scripts.python.nodes import last_name, names_in, unparse, walk
from preflight.scripts.python.operators import applied
from preflight.scripts.python.scope import UNKNOWN
from preflight.unpriced_names import COPY, GRADIENTS_STAY, KEPT_OF_EACH, LARGE

_OVER_PARAMETERS = lazy_pattern(r"\b(?:named_)?parameters\(\)|\bstate_dict\(\)")
_SAME_SHAPE = frozenset(
    {"data", "grad", "detach", "clone", "float", "half", "bfloat16", "to", "abs", "pow", "square"}
)
_NEW = _SAME_SHAPE - {"data", "grad", "detach", "to"}
"""Methods of a tensor that make another one as large."""


def kept_of_each(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a loop over a model's parameters keeps a tensor of each on the device, with its line: averages of the
    weights, squares of gradients, the weights as they were."""
    named = {name for node in nodes for name in _holds_parameters(node)}
    for loop in nodes:
        if not isinstance(loop, ast.For) or not _is_over_parameters(loop.iter, named):
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
    for node in nodes:
        is_flat = isinstance(node, ast.Call) and last_name(node.func) in _FLAT
        of_all = node.args[:1] if isinstance(node, ast.Call) and is_flat else [node]
        if any(_keeps_all(each, is_flat, named) for each in of_all):
            yield KEPT_OF_EACH, getattr(node, "lineno", 0)


def _holds_parameters(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement gives all parameters: `held = list(model.parameters())`, `held = model.state_dict()`."""
    value = node.value if isinstance(node, ast.Assign) else None
    if isinstance(node, ast.Assign) and isinstance(value, ast.Call):
        inner = value.args[0] if last_name(value.func) in ("list", "tuple", "dict") and value.args else value  # fmt: skip
        if isinstance(inner, ast.Call) and _GIVES_PARAMETERS.search(unparse(inner.func)):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))


_GIVES_PARAMETERS = lazy_pattern(r"\.(?:(?:named_)?parameters|state_dict)$")


def _is_over_parameters(node: ast.expr, named: Container[str]) -> bool:
    is_named = any(name in named for name in names_in(node))
    return is_named or _OVER_PARAMETERS.search(unparse(node)) is not None


_FLAT = frozenset({"cat", "stack", "parameters_to_vector", "_flatten_dense_tensors"})
"""Functions of torch that make one new tensor of several (torch/nn/utils/convert_parameters.py, torch/_utils.py, 2.13)."""


def _keeps_all(node: ast.AST, is_flat: bool, named: Container[str]) -> bool:
    """Tell whether an expression makes a tensor of every parameter: `[p.grad.float() for p in model.parameters()]`, and where one
    is made of all of them, `torch.cat([p.grad.flatten() for p in model.parameters()])`."""
    if is_flat and isinstance(node, ast.Call):
        return _OVER_PARAMETERS.search(unparse(node)) is not None and "cpu" not in unparse(node)
    if not isinstance(node, (ast.ListComp, ast.DictComp)) and not (
        is_flat and isinstance(node, ast.GeneratorExp)
    ):
        return False
    value = node.value if isinstance(node, ast.DictComp) else node.elt
    first = node.generators[0]
    if not _is_over_parameters(first.iter, named) or "cpu" in unparse(value):
        return False
    names = {*names_in(first.target)}
    if is_flat:
        return _methods(value, names, _SAME_SHAPE | _VIEWS) is not None
    is_here = _OVER_PARAMETERS.search(unparse(first.iter)) is not None
    has_a_name = is_here and ("clone" in unparse(value) or "_like" in unparse(value))
    return not has_a_name and _is_new(value, names)


_VIEWS = frozenset({"flatten", "view", "reshape", "ravel"})


def _kept(node: ast.AST) -> ast.expr | None:
    """Return what a statement puts into a dictionary, a list or an attribute, but for what a parameter has of itself."""
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        is_own = isinstance(target, ast.Attribute) and target.attr in ("data", "grad")
        return (
            node.value
            if isinstance(target, (ast.Subscript, ast.Attribute)) and not is_own
            else None
        )
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


def _methods(
    node: ast.expr, names: Container[str], same: Container[str] = _SAME_SHAPE
) -> list[str] | None:
    """Return the attributes and methods by which an expression leads from one of some names to a tensor as large."""
    found = []
    while not isinstance(node, ast.Name):
        node = node.func if isinstance(node, ast.Call) else node
        if not isinstance(node, ast.Attribute) or node.attr not in same:
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
    made = [
        (node.lineno, call)
        for node in nodes
        if isinstance(node, (ast.Assign, ast.Expr)) and isinstance(node.value, ast.Call)
        if _ON_CARD.search(unparse(node.value))
        for call in walk(node.value)
        if isinstance(call, ast.Call) and last_name(call.func) in _MAKES
    ]
    numbers = _named_numbers(nodes) if made else {}
    for line, call in made:
        sizes = call.args[0].elts if call.args and isinstance(call.args[0], (ast.Tuple, ast.List)) else call.args  # fmt: skip
        if _numbers(sizes, numbers) >= LARGE_FROM:
            yield LARGE, line


def _named_numbers(nodes: Sequence[ast.AST]) -> dict[str, object]:
    """Return the names of a file that hold one number, each with the largest that it is set to."""
    found: dict[str, object] = {}
    for node in nodes:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=False))
            for each, given in pairs:
                number = _plain(given, {})
                if isinstance(each, ast.Name) and isinstance(number, int):
                    before = found.get(each.id)
                    found[each.id] = max(number, before) if isinstance(before, int) else number
    return found


def _numbers(sizes: Sequence[ast.expr], named: Mapping[str, object]) -> int:
    """Return how many numbers a tensor of some sizes has; 0 where one is no plain number."""
    product: object = 1 if sizes else 0
    for size in sizes:
        product = applied(ast.Mult, product, _plain(size, named))
    return product if isinstance(product, int) else 0


def _plain(node: ast.expr, named: Mapping[str, object]) -> object:
    """Return what numbers, names of numbers and operators alone say: `4096`, `10 * 2**30`."""
    if isinstance(node, ast.BinOp):
        return applied(type(node.op), _plain(node.left, named), _plain(node.right, named))
    if isinstance(node, ast.Name):
        return named.get(node.id, UNKNOWN)
    return node.value if isinstance(node, ast.Constant) else UNKNOWN


def copies(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a file copies what holds a model, whatever it is called: `policy = copy.deepcopy(base)`, or makes another
    one of its class: `type(model)(model.config)`."""
    for node in nodes:
        given = (
            node.args[:1]
            if isinstance(node, ast.Call) and last_name(node.func) == "deepcopy"
            else []
        )
        if isinstance(node, ast.Call) and (
            isinstance(node.func, ast.Call) or last_name(node.func) == "__class__"
        ):
            given = (
                node.func.args[:1]
                if isinstance(node.func, ast.Call) and last_name(node.func.func) == "type"
                else []
            )
            given += [node.func.value] if isinstance(node.func, ast.Attribute) else []
        if any(MODEL.match(unparse(each)) for each in given):
            yield COPY, getattr(node, "lineno", 0)


def found_gradients(own: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a step lets its gradients go behind its forward and before its backward, with its line; `own` are its nodes.

    `loss = model(**batch).loss; optimizer.zero_grad(); loss.backward()` holds those of the step before beside all activations,
    until zero_grad (torch/optim/optimizer.py zero_grad, 2.13).
    """
    calls = [node for node in own if isinstance(node, ast.Call)]
    forwards = [_at(call) for call in calls if runs_model(call)]
    backwards = [_at(call) for call in calls if last_name(call.func) == "backward"]
    zeros = [_at(call) for call in calls if last_name(call.func) == "zero_grad"]
    is_step = forwards and backwards and zeros
    if is_step and all(min(forwards) < place < max(backwards) for place in zeros):
        yield GRADIENTS_STAY, zeros[0][0]


def _at(call: ast.Call) -> tuple[int, int]:
    """Return where a call begins: statements of one line are in order too."""
    return call.lineno, call.col_offset

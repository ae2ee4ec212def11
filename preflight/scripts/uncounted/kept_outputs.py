"""What a loop keeps on the device of what its model gave: logits of every batch, or those of the step before."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterator, Sequence

from preflight.scripts.losses.own_losses import hands_to_model
from preflight.scripts.python.nodes import (
    last_name,
    names_in,
    parts_of_target,
    root_of,
    unparse,
    walk,
)
from preflight.unpriced_names import KEPT_LOGITS

_STAYS = frozenset(
    {"detach", "clone", "float", "to", "contiguous", "half", "bfloat16", "softmax", "log_softmax", "sigmoid", "exp"}
)  # fmt: skip
"""Methods of a tensor that give as many numbers, on the device where they are."""
_OF_OUTPUTS = frozenset({"logits", "hidden_states", "attentions", "last_hidden_state"})
_GIVES = frozenset(
    {"softmax", "log_softmax", "cat", "concat", "stack", "gather", "gather_for_metrics", "all_gather", "pad_across_processes"}
)  # fmt: skip
"""Functions that give as many numbers as they are given, or more."""
_ADDS = frozenset({"append", "extend", "insert", "add"})


def kept_outputs(own: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a step or a loop puts what its model gave where it lives through the next round: `kept[step] =
    outputs.logits`, `self.last = outputs.logits.detach()`, `kept.append(logits)`; `own` are its nodes."""
    outputs = _outputs(own)
    set_here = [node for node in own if isinstance(node, ast.Assign)]
    made = {
        name
        for node in set_here
        for name in map(last_name, node.targets)
        if name not in names_in(node.value)
    }
    for node in own:
        for owner, value in _kept(node):
            if (
                root_of(owner) not in made
                and "loss" not in unparse(owner)
                and _is_large(value, outputs)
            ):
                yield KEPT_LOGITS, getattr(node, "lineno", 0)


def kept_of_all(nodes: Sequence[ast.AST]) -> Iterator[tuple[str, int]]:
    """Yield where a file makes a list of what its model gives for every batch: `[model(**rows).logits for rows in loader]`."""
    for node in nodes:
        is_part = isinstance(node, ast.ListComp) and _part_of(node.elt) is not node.elt
        if isinstance(node, ast.ListComp) and is_part and _is_large(node.elt, ()):
            yield KEPT_LOGITS, node.lineno


def _outputs(own: Sequence[ast.AST]) -> set[str]:
    """Return the names of what a model gave in a block, but for its loss."""
    found: set[str] = set()
    size = -1
    while size < len(found):
        size = len(found)
        for node in own:
            if isinstance(node, ast.Assign):
                names = {last_name(p) for each in node.targets for p in parts_of_target(each)}
                parts = len(names) > 1 and any(map(hands_to_model, walk(node.value)))
                if parts or _is_large(node.value, found):
                    found |= {name for name in names if name and "loss" not in name}
    return found


def _kept(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield what a statement puts something into that is there before and behind it, and what."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in _ADDS:
            yield from ((node.func.value, each) for each in node.args)
    elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Add):
        yield node.target, node.value
    elif isinstance(node, ast.Assign):
        target = node.targets[0]
        is_held = isinstance(target, ast.Subscript) or root_of(target) == "self"
        is_more = isinstance(target, ast.Name) and target.id in names_in(node.value)
        if is_held or is_more:
            yield target, _beside(node.value, unparse(target)) if is_more else node.value


def _beside(value: ast.expr, name: str) -> ast.expr:
    """Return what is put to what a name has: all elements but it of `torch.cat([kept, logits])`, of `kept + [logits]`."""
    parts = [each for each in walk(value) if isinstance(each, (ast.List, ast.Tuple))]
    others = [each for part in parts for each in part.elts if unparse(each) != name]
    return ast.Tuple(others, ast.Load())


def _is_large(value: ast.expr, outputs: Container[str]) -> bool:
    """Tell whether an expression holds what a model gave, other than its loss, on the device."""
    if isinstance(value, (ast.Tuple, ast.List)):
        return any(_is_large(each, outputs) for each in value.elts)
    if isinstance(value, ast.Dict):
        return any(_is_large(each, outputs) for each in value.values)
    if isinstance(value, ast.IfExp):
        return _is_large(value.body, outputs) or _is_large(value.orelse, outputs)
    given = value.args[:1] if isinstance(value, ast.Call) else []
    if any(_is_large(each, outputs) for each in given) and last_name(value.func) in _GIVES:  # type: ignore[attr-defined]
        return True
    part = _part_of(value)
    return hands_to_model(part) or (isinstance(part, ast.Name) and part.id in outputs)


def _part_of(value: ast.expr) -> ast.expr:
    """Return of what an expression is as large a part: `outputs` of `outputs.logits.detach()`."""
    while True:
        if (
            isinstance(value, ast.Call)
            and last_name(value.func) in _STAYS
            and "cpu" not in unparse(value)
        ):
            value = value.func
        is_attribute = isinstance(value, ast.Attribute) and value.attr in _STAYS | _OF_OUTPUTS
        is_entry = isinstance(value, ast.Subscript) and getattr(value.slice, "value", 0) in _OF_OUTPUTS  # fmt: skip
        if not is_attribute and not is_entry:
            return value
        value = value.value  # type: ignore[attr-defined]

"""Whether the reference of a script's own step is a second copy of the model that it trains, and who holds its weights."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator

from preflight.scripts.files import last_name
from preflight.scripts.loss_values import REFERENCE
from preflight.scripts.own_losses import MODEL

COPIES = frozenset({"deepcopy", "create_reference_model"})
KEEPS = frozenset({"eval", "to", "cuda", "requires_grad_"})
"""Methods that give back the model itself."""
NAMES_MODEL = re.compile(r"model|name|path")
PARTITIONS = re.compile(
    r"(?:prepare_deepspeed|deepspeed\.initialize)\(\s*(?:model\s*=\s*)?(?:self\.)?ref"
)
"""What hands a reference to DeepSpeed, whose ZeRO-3 then partitions it (trl/models/utils.py prepare_deepspeed)."""


def is_second_copy(trees: Iterable[ast.Module]) -> bool:
    """Tell whether everything that a reference is set to is the trained model's own: its name, a copy of it, or what the
    same call makes of the same words."""
    made = [each for tree in trees for each in _set(tree)]
    trained = [value for name, value in made if not _is_reference(name)]
    found = [_kind(value, trained) for name, value in made if _is_reference(name)]
    return "copy" in found and "other" not in found


def _set(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the models that a file sets by name, and what each is set to."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            first = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
            if isinstance(first, (ast.Name, ast.Attribute)) and MODEL.match(ast.unparse(first)):
                yield last_name(first), node.value


def _is_reference(name: str) -> bool:
    return REFERENCE.search(name) is not None


def _kind(value: ast.expr, trained: list[ast.expr]) -> str:
    """Return what a reference is set to: a `copy` of the model, the reference `itself`, or something `other`."""
    if isinstance(value, ast.Constant) and value.value is None:
        return "itself"
    if isinstance(value, (ast.Name, ast.Attribute)) and MODEL.match(ast.unparse(value)):
        return "itself" if _is_reference(last_name(value)) else "copy"
    if not isinstance(value, ast.Call):
        return "other"
    while last_name(value.func) in KEEPS and isinstance(value.func, ast.Attribute):
        if not isinstance(value.func.value, ast.Call):
            break
        value = value.func.value
    words = [*value.args, *(each.value for each in value.keywords if each.arg)]
    models = [
        each
        for each in words
        if isinstance(each, (ast.Name, ast.Attribute)) and MODEL.match(ast.unparse(each))
    ]
    if any(_is_reference(last_name(each)) for each in models):
        return "itself"  # it is loaded by the name that it has, or prepared
    if last_name(value.func) in COPIES and models:
        return "copy"
    is_alike = any(_words(value) == _words(each) for each in trained if isinstance(each, ast.Call))
    return "copy" if is_alike and _words(value)[1:] else "other"


def _words(call: ast.Call) -> list[str]:
    """Return a call's function, and those of its arguments that say which model it makes."""
    given = [*call.args, *(each.value for each in call.keywords if each.arg)]
    says = [
        ast.unparse(each)
        for each in given
        if (each in call.args and isinstance(each, ast.Constant) and isinstance(each.value, str))
        or NAMES_MODEL.search(ast.unparse(each))
    ]
    return [ast.unparse(call.func), *says]

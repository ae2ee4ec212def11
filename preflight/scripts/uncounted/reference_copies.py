"""Whether the reference of a script's own step is a second copy of the model that it trains, and who holds its weights;
and whether a script has one at all in what a launch runs of it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.loss_values import REFERENCE
from preflight.scripts.losses.own_losses import MODEL
from preflight.scripts.python.nodes import last_name, targets_of, unparse, walk

COPIES = frozenset({"deepcopy", "create_reference_model"})
KEEPS = frozenset({"eval", "to", "cuda", "requires_grad_"})
"""Methods that give back the model itself."""
NAMES_MODEL = lazy_pattern(r"model|name|path")
PARTITIONS = lazy_pattern(
    r"(?:prepare_deepspeed|deepspeed\.initialize)\(\s*(?:model\s*=\s*)?(?:self\.)?ref"
)
"""What hands a reference to DeepSpeed, whose ZeRO-3 then partitions it (trl/models/utils.py prepare_deepspeed)."""


REFERENCE_NAME = lazy_pattern(r"\bref(?:erence)?_model\b")


def is_never_made(files: Iterable[tuple[ast.Module, Collection[int]]]) -> bool:
    """Tell whether the reference model that a launch's lines speak of is None in all of them: set to it, and handed on.

    `files` are trees with the lines that run. A parameter of that name, one that is called or asked for an attribute,
    and one that is set to anything else may be a model.
    """
    is_none = False
    for tree, lines in files:
        for node in walk(tree):
            for value in _made_reference(node) if getattr(node, "lineno", 0) in lines else ():
                if isinstance(value, ast.Constant) and value.value is None:
                    is_none = True
                elif not _is_named_reference(value):
                    return False
    return is_none


def _made_reference(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what a node makes of a reference model: the value that it gives one, itself where that is not told apart."""
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = targets_of(node)
        if any(map(_is_named_reference, targets)):
            yield node.value or node
        elif any(_is_named_reference(part) for each in targets for part in walk(each)):
            yield node  # one of several
    elif isinstance(node, ast.keyword) and REFERENCE_NAME.fullmatch(node.arg or ""):
        yield node.value
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if key is not None and _says_reference(key):
                yield value
    elif isinstance(node, ast.Call):
        if _is_named_reference(node.func) or any(map(_says_reference, node.args)):
            yield node
    elif isinstance(node, ast.Attribute):
        if _is_named_reference(node.value):
            yield node
    elif isinstance(node, (ast.arg, ast.alias, ast.FunctionDef)):
        name = node.arg if isinstance(node, ast.arg) else node.name
        if REFERENCE_NAME.fullmatch(name):
            yield node


def _says_reference(text: ast.expr) -> bool:
    return isinstance(text, ast.Constant) and REFERENCE_NAME.fullmatch(str(text.value)) is not None


def _is_named_reference(value: ast.AST) -> bool:
    """Tell whether an expression is a reference's name alone, or its place in a dict."""
    if isinstance(value, ast.Subscript):
        return _says_reference(value.slice)
    name = last_name(value) if isinstance(value, ast.expr) else ""
    return REFERENCE_NAME.fullmatch(name) is not None


def is_second_copy(trees: Iterable[ast.Module]) -> bool:
    """Tell whether everything that a reference is set to is the trained model's own: its name, a copy of it, or what the
    same call makes of the same words."""
    made = [each for tree in trees for each in _set(tree)]
    trained = [value for name, value in made if not _is_reference(name)]
    found = [_kind(value, trained) for name, value in made if _is_reference(name)]
    return "copy" in found and "other" not in found


def _set(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the models that a file sets by name, and what each is set to."""
    for node in walk(tree):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            first = target.elts[0] if isinstance(target, ast.Tuple) and target.elts else target
            if isinstance(first, (ast.Name, ast.Attribute)) and MODEL.match(unparse(first)):
                yield last_name(first), node.value


def _is_reference(name: str) -> bool:
    return REFERENCE.search(name) is not None


def _kind(value: ast.expr, trained: list[ast.expr]) -> str:
    """Return what a reference is set to: a `copy` of the model, the reference `itself`, or something `other`."""
    if isinstance(value, ast.Constant) and value.value is None:
        return "itself"
    if isinstance(value, (ast.Name, ast.Attribute)) and MODEL.match(unparse(value)):
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
        if isinstance(each, (ast.Name, ast.Attribute)) and MODEL.match(unparse(each))
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
        unparse(each)
        for each in given
        if (each in call.args and isinstance(each, ast.Constant) and isinstance(each.value, str))
        or NAMES_MODEL.search(unparse(each))
    ]
    return [unparse(call.func), *says]

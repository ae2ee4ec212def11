"""A model of a script's own that scores what another one returns: a module around it, with a linear layer to one number.

DeepSpeed-Chat's RewardModel is one, and who copied it has it: the score stands in place of the vocabulary, so what such
a step takes is known where the module keeps nothing else.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from preflight.launch_facts import Scorer
from preflight.scripts.losses.own_losses import takes_pairs
from preflight.scripts.python.nodes import (
    argument_of,
    children,
    last_name,
    methods_of,
    unparse,
    walk,
)
from preflight.setting import Place

HARMLESS = frozenset({"hasattr", "getattr", "isinstance", "super", "__init__"})
"""Calls of a constructor that make no module."""
HIDDEN = "last_hidden_state"
BARE = "AutoModel"
"""The class whose models return hidden states first, and have no head."""


def scoring_model(files: Iterable[tuple[str, ast.Module]], names: Iterable[str]) -> Scorer | None:
    """Return the module of a script's own, one of `names`, that scores both answers of a pair; None where that is not read."""
    held = list(files)
    found = [
        (path, node)
        for path, tree in held
        for node in walk(tree)
        if isinstance(node, ast.ClassDef) and node.name in names
    ]
    if len(found) != 1:
        return None
    path, cls = found[0]
    methods = methods_of(cls)
    makes, runs = methods.get("__init__"), methods.get("forward")
    if makes is None or runs is None or len(makes.args.args) < 2:
        return None
    wrapped, heads = _parts(makes)
    if not wrapped or not heads or not _scores_alone(runs, wrapped, heads):
        return None
    if not any(map(takes_pairs, walk(runs))):
        return None  # how many sequences a row of the data becomes is not said
    if not all(_is_around_bare_model(tree, cls.name) for _, tree in held):
        return None
    return Scorer(cls.name, Place("script", path, cls.name, cls.lineno))


def _parts(makes: ast.FunctionDef) -> tuple[str, frozenset[str]]:
    """Return the attribute that holds the model which a constructor is given, and those of linear layers to one number;
    nothing where it makes anything else."""
    given = makes.args.args[1].arg
    wrapped, heads = "", set[str]()
    for node in walk(makes):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == given:
                wrapped = node.targets[0].attr
            elif _is_score(node.value):
                heads.add(node.targets[0].attr)
        makes_other = isinstance(node, ast.Call) and last_name(node.func) not in HARMLESS
        if makes_other and not _is_score(node):
            return "", frozenset()
    return wrapped, frozenset(heads)


def _is_score(value: ast.AST) -> bool:
    if not isinstance(value, ast.Call) or last_name(value.func) != "Linear":
        return False
    out = argument_of(value, 1, "out_features")
    return isinstance(out, ast.Constant) and out.value == 1


def _scores_alone(runs: ast.FunctionDef, wrapped: str, heads: frozenset[str]) -> bool:
    """Tell whether a forward runs the model once, and of what that returns only heads read the hidden states."""
    parents = {child: parent for parent in walk(runs) for child in children(parent)}
    calls = [each for each in walk(runs) if isinstance(each, ast.Call) and _of_self(each.func)]
    models = [each for each in calls if last_name(each.func) == wrapped]
    if len(models) != 1 or any(last_name(each.func) not in {wrapped, *heads} for each in calls):
        return False
    return all(_reaches_heads(use, runs, parents, heads) for use in _uses(models[0], runs, parents))


def _of_self(func: ast.expr) -> bool:
    return (
        isinstance(func, ast.Attribute)
        and isinstance(func.value, ast.Name)
        and func.value.id == "self"
    )


def _uses(
    value: ast.AST, runs: ast.FunctionDef, parents: dict[ast.AST, ast.AST]
) -> Iterator[ast.AST]:
    """Yield where a value is read: itself, or the name that it is set to wherever that stands."""
    parent = parents[value]
    if not isinstance(parent, ast.Assign) or not isinstance(parent.targets[0], ast.Name):
        yield value
        return
    name = parent.targets[0].id
    for node in walk(runs):
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
            yield node


def _reaches_heads(
    use: ast.AST, runs: ast.FunctionDef, parents: dict[ast.AST, ast.AST], heads: frozenset[str]
) -> bool:
    """Tell whether a use of what the model returned takes its hidden states, and a head is all that reads them."""
    parent = parents[use]
    is_first = isinstance(parent, ast.Subscript) and unparse(parent.slice) == "0"
    if not is_first and not (isinstance(parent, ast.Attribute) and parent.attr == HIDDEN):
        return False
    for each in _uses(parent, runs, parents):
        reader = parents[each]
        if not isinstance(reader, ast.Call) or last_name(reader.func) not in heads:
            return False
    return True


def _is_around_bare_model(tree: ast.Module, name: str) -> bool:
    """Tell whether wherever a file makes such a module, it is given what AutoModel loads."""
    for block in walk(tree):
        if not isinstance(block, ast.FunctionDef):
            continue
        made = [each for each in walk(block) if _calls(each, name)]
        for call in made:
            given = unparse(call.args[0]) if isinstance(call, ast.Call) and call.args else ""
            values = [
                each.value
                for each in walk(block)
                if isinstance(each, ast.Assign)
                and unparse(each.targets[0]) == given
                and each.value not in made
            ]
            if len(values) != 1 or not _loads_bare(values[0]):
                return False
    return True


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and last_name(node.func) == name


def _loads_bare(value: ast.expr) -> bool:
    """Tell whether a call loads with AutoModel: of it, or given it as the class to load with."""
    if not isinstance(value, ast.Call):
        return False
    owner = value.func.value if isinstance(value.func, ast.Attribute) else None
    named = [owner, *value.args, *(each.value for each in value.keywords)]
    return any(isinstance(each, ast.Name) and each.id == BARE for each in named)

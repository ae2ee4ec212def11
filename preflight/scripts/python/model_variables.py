"""Variables that hold a model and are not called one: `net = AutoModelForCausalLM.from_pretrained(...)`.

What a step does to a model is seen by the name of what it does it to. A variable that surely holds one is therefore called
one, in the tree that is read, before anybody looks at it: `net` is `net_model` there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.python.nodes import (
    branches_of,
    last_name,
    parameters_of,
    parts_of_target,
    walk,
)

_LOADS = frozenset({"from_pretrained", "from_config"})
_CLASS = lazy_pattern(
    r"^(?:Auto|Peft|AutoPeft|Fast\w*)Model\w*$"
    r"|For(?:CausalLM|ConditionalGeneration|ImageTextToText|\w+Classification|\w*LM)$|LMHeadModel\w*$"
)
_MAKES = lazy_pattern(
    r"^(?:load|build|get|create|make|init|setup|prepare|initialize)_(?:\w+_)?model(?:_and_\w+)?$"
)
"""Functions that give a model back by their names, the first of several."""


SUFFIX = "model"


def call_models(tree: ast.Module) -> None:
    """Rename the variables, parameters and attributes of a new tree that hold nothing but a model, and are not called one."""
    nodes = walk(tree)
    functions = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    held = {*_held(nodes), *_trained(nodes, functions.values())}
    held |= {*_passed(nodes, functions, held)}
    held |= {*_other_names(nodes, held)}
    names = {name for name in held if not name.endswith(SUFFIX) and name != "_"}
    names -= _others(nodes, names) if names else set()
    for node in nodes if names else ():
        if isinstance(node, ast.Name) and node.id in names:
            node.id += f"_{SUFFIX}"
        elif isinstance(node, ast.Attribute) and _name(node) in names:
            node.attr += f"_{SUFFIX}"
        elif isinstance(node, ast.arg) and node.arg in names:
            node.arg += f"_{SUFFIX}"
        elif isinstance(node, ast.Call) and last_name(node.func) in functions:
            for keyword in node.keywords:
                if keyword.arg in names:
                    keyword.arg = f"{keyword.arg}_{SUFFIX}"


def _trained(nodes: Sequence[ast.AST], functions: Iterable[ast.FunctionDef]) -> Iterator[str]:
    """Yield the parameters of functions that are called, and put into training or evaluation."""
    switched_anywhere = set(_switched(nodes))
    for function in functions:
        parameters = [each.arg for each in function.args.args if each.arg in switched_anywhere]
        inside = walk(function) if parameters else ()
        called = {_name(node.func) for node in inside if isinstance(node, ast.Call)}
        switched = set(_switched(inside))
        yield from (name for name in parameters if name in called & switched)


def _switched(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the names of what is put into training or evaluation: `model.train()`."""
    for node in nodes:
        func = node.func if isinstance(node, ast.Call) and not node.args else None
        if isinstance(func, ast.Attribute) and func.attr in ("train", "eval"):
            yield _name(func.value)


def _passed(
    nodes: Sequence[ast.AST], functions: Mapping[str, ast.FunctionDef], held: set[str]
) -> Iterator[str]:
    """Yield the parameters of a file's functions that are given a model."""
    for node in nodes:
        if not isinstance(node, ast.Call) or last_name(node.func) not in functions:
            continue
        names = parameters_of(functions[last_name(node.func)])
        for name, given in zip(names, node.args, strict=False):
            if _name(given) in held or _name(given).endswith(SUFFIX):
                yield name


def _other_names(nodes: Sequence[ast.AST], held: Container[str]) -> Iterator[str]:
    """Yield the further names of a model that are asked as one: `run = model; run(**rows)`."""
    asked = {_name(node.func) for node in nodes if isinstance(node, ast.Call)}
    asked |= {
        _name(node.value)
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in _OF_MODELS
    }
    for node in nodes:
        if isinstance(node, ast.Assign) and _is_model(node.value, held):
            yield from asked.intersection(map(_name, node.targets))


_OF_MODELS = frozenset({"generate", "train", "eval", "parameters", "state_dict"})
"""What a model is asked for, and no name of one."""
_UNWRAPS = lazy_pattern(r"^(?:_?unwrap\w*|extract_model\w*|getattr)$")
"""Functions that give the model itself of what an engine made of it (accelerate/utils/other.py, transformers/modeling_utils.py)."""


def _is_model(value: ast.expr, held: Container[str]) -> bool:
    """Tell whether a value is a model by its name, or what is wrapped in one: `model.module`, `unwrap_model(model)`."""
    if isinstance(value, ast.IfExp):
        return all(_is_model(each, held) for each in branches_of(value))
    if isinstance(value, ast.Call) and _UNWRAPS.match(last_name(value.func)) and value.args:
        return _is_model(value.args[0], held)
    if isinstance(value, ast.Attribute) and value.attr == "module":
        return _is_model(value.value, held)
    return (name := _name(value)) in held or name.endswith(SUFFIX)


def _held(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """Yield the names of what a call surely gives a model to."""
    for node in nodes:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        target, called = node.targets[0], node.value.func
        if isinstance(target, ast.Tuple):
            target = target.elts[0]
        name = last_name(called)
        owner = last_name(called.value) if isinstance(called, ast.Attribute) else ""
        if (name in _LOADS and _CLASS.search(owner)) or _MAKES.match(name):
            yield _name(target)


def _others(nodes: Sequence[ast.AST], names: set[str]) -> set[str]:
    """Return those of some names that hold something else too: what is not made of themselves, or a parameter's default."""
    others = set[str]()
    for node in nodes:
        if isinstance(node, ast.arguments):
            positional = (*node.posonlyargs, *node.args)
            named = zip(node.kwonlyargs, node.kw_defaults, strict=True)
            with_default = [*positional[len(positional) - len(node.defaults) :]]
            with_default += [each for each, default in named if default is not None]
            others |= {each.arg for each in (*with_default, node.vararg, node.kwarg) if each}
            others |= {each.arg for each in (*positional, *node.kwonlyargs) if _is_text(each)}
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            others |= {*node.names}
        elif isinstance(node, (ast.For, ast.comprehension)):
            others |= {_name(each) for each in parts_of_target(node.target)}
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            others |= {_name(each) for each in parts_of_target(node.optional_vars)}
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            others |= {each.asname or each.name for each in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            others.add(node.name)
        elif isinstance(node, ast.Assign):
            given = {
                _name(each) for target in node.targets for each in parts_of_target(target)
            } & names
            if given and not _makes_model(node.value, given):
                others |= given
        elif isinstance(node, ast.AnnAssign):
            others.add(_name(node.target))
    return others


def _makes_model(value: ast.expr, names: set[str]) -> bool:
    """Tell whether a value is a model, one that is made of what some names hold, or none yet."""
    if isinstance(value, ast.Constant):
        return value.value is None
    if isinstance(value, ast.Call) and any(_held([ast.Assign([ast.Name("_")], value)])):
        return True
    return _is_model(value, names) or any(_name(each) in names for each in walk(value))


def _is_text(parameter: ast.arg) -> bool:
    return parameter.annotation is not None and bool(
        re.search(r"str|Path|int|float|bool", ast.unparse(parameter.annotation))
    )


def _name(node: ast.AST) -> str:
    """Return a variable's name, or that of an attribute of `self`; empty for anything else."""
    if isinstance(node, ast.Attribute):
        is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
        return f"self.{node.attr}" if is_own else ""
    return node.id if isinstance(node, ast.Name) else ""

"""Calls of a step of somebody's own: of a model, of torch's operations on its logits, of the script's functions."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from fractions import Fraction

from preflight.scripts.losses.loss_graph import Group, Outputs, Tensor
from preflight.scripts.losses.loss_machine import Machine
from preflight.scripts.losses.loss_operations import FLATTENS, KNOWN, LOOKS_ALIKE, TELLS
from preflight.scripts.losses.loss_values import (
    DTYPES,
    LOOKED_AT,
    OF_MODEL,
    Constant,
    Criterion,
    GivenUp,
    Model,
    Partial,
    written,
)
from preflight.scripts.python.nodes import last_name, walk
from preflight.unpriced_names import OUTPUTS

MAKES_ROWS = frozenset(
    {"cat", "concat", "stack", "repeat", "repeat_interleave", "expand", "tile", "hstack", "vstack", "chain", "extend"}
)  # fmt: skip
OPERATIONS = KNOWN | LOOKS_ALIKE | FLATTENS
OUTPUTS_OF_LAYERS = ("output_hidden_states", "output_attentions")


class Step(Machine):
    """One run of a step, with what it calls."""

    def called(self, node: ast.Call) -> object:
        return _called(self, node)


def _called(machine: Machine, node: ast.Call) -> object:
    name = last_name(node.func.func if isinstance(node.func, ast.Call) else node.func)
    if name == "CrossEntropyLoss" and not isinstance(node.func, ast.Call):
        return Criterion()
    depth, owner = len(machine.stack), None
    if isinstance(node.func, ast.Attribute):
        owner = machine.on_stack(node.func.value)
    callee = machine.named(written(node.func))
    if isinstance(callee, Model):
        return _forward(machine, callee, node)
    given = [machine.on_stack(each) for each in node.args if not isinstance(each, ast.Starred)]
    named = {each.arg: machine.on_stack(each.value) for each in node.keywords}
    if name == "backward":
        machine.go_back(owner if isinstance(owner, Tensor) else next(iter(given), None))
        return None
    machine.makes_rows = machine.makes_rows or name in MAKES_ROWS
    if isinstance(owner, Model):
        if name not in OF_MODEL:
            raise GivenUp(f"{name} of a model")
        return None
    if isinstance(callee, Criterion) or isinstance(node.func, ast.Call):
        if name not in ("CrossEntropyLoss",) and not isinstance(callee, Criterion):
            return _unknown(machine, name, [*given, *named.values()])
        return _operated(machine, "cross_entropy", given, named, node)
    if isinstance(owner, Tensor):
        return _method(machine, name, owner, given, named, node)
    if isinstance(owner, Outputs) and name == "get" and isinstance(given[0], Constant):
        return machine.of_outputs(owner, given[0].value)
    if isinstance(owner, Group) and name in ("items", "keys", "get", "pop", "update", "append"):
        return _of_group(machine, name, owner, given)
    everything = [*given, *named.values()]
    functions: Sequence[ast.FunctionDef] = machine.functions.named(name)
    if name == "partial" and given and isinstance(given[0], ast.FunctionDef):
        return Partial(given[0], named)
    if isinstance(callee, Partial):
        named = {**callee.named, **named}
    if isinstance(callee, (Partial, ast.FunctionDef)):
        functions = [callee.function if isinstance(callee, Partial) else callee]
    if functions and _is_entered(machine, functions, everything):
        if len(functions) > 1:
            raise GivenUp(f"several functions {name}")
        names = _bound(machine, functions[0], node, given, named)
        # from Python 3.11 on, a function has the only reference to what nobody else holds
        if any(map(_is_large, everything)) and not machine.is_so("callers hold what they hand on"):
            del machine.stack[depth:]
        return machine.entered(functions[0], names)
    if name in OPERATIONS and given and isinstance(given[0], Tensor):
        return _operated(machine, name, given, named, node)
    if name in ("cat", "concat") and given and isinstance(given[0], Group):
        return _joined(machine, given[0])
    if name in ("zeros_like", "ones_like", "empty_like", "full_like", "rand_like"):
        first = given[0] if given else None
        if isinstance(first, Tensor) and first.storage is not None:
            like = Tensor(share=first.share, width=first.width)
            return machine.made(like, [])
        return None
    return _unknown(machine, name, everything)


def _is_entered(
    machine: Machine, functions: Sequence[ast.FunctionDef], given: list[object]
) -> bool:
    """Tell whether what a function does matters: small tensors stay small, unless rows are taken apart by halves."""
    if any(_is_large(each) or isinstance(each, Model) for each in given):
        return True
    if any(map(machine.functions.calls_a_model, functions)):
        return True
    cuts = any(isinstance(node, ast.Slice) for each in functions for node in walk(each))
    return cuts and any(map(_counts, given))


def _forward(machine: Machine, model: Model, node: ast.Call) -> object:
    has_labels = False
    is_uncached = any(k.arg == "use_cache" and written(k.value) == "False" for k in node.keywords)
    for each in node.args:
        if isinstance(each, ast.Starred):
            raise GivenUp("arguments of a model in order")
    for keyword in node.keywords:
        text = written(keyword.value)
        if keyword.arg == "output_hidden_states" and text == "True":
            machine.asks_layers.add(node)
        elif keyword.arg in OUTPUTS_OF_LAYERS and text != "False":
            raise GivenUp(OUTPUTS)
        if keyword.arg in ("labels", "num_logits_to_keep", "logits_to_keep") and text != "None":
            if keyword.arg != "labels":
                raise GivenUp("logits of some positions")
            has_labels = True
        if keyword.arg is None:
            held = machine.evaluated(keyword.value)
            if isinstance(held, Group) and "**" not in held.items:
                has_labels = has_labels or "'labels'" in held.items
                cache = held.items.get("'use_cache'")
                is_uncached = is_uncached or (isinstance(cache, Constant) and cache.value is False)
            else:
                has_labels = has_labels or machine.is_so(f"labels in {text}")
    if not is_uncached and (model.is_reference or not machine.has_graph):
        machine.caches_keys = True
    return machine.forward(model, has_labels)


def _counts(value: object) -> bool:
    """Tell whether a value is, or holds, what is counted."""
    if isinstance(value, Tensor):
        return value.storage is not None or bool(value.nodes)
    if isinstance(value, Group):
        return any(map(_counts, value.items.values()))
    return isinstance(value, (Outputs, Model))


def _is_large(value: object) -> bool:
    if isinstance(value, Group):
        return any(map(_is_large, value.items.values()))
    return isinstance(value, Outputs) or (isinstance(value, Tensor) and value.storage is not None)


def _unknown(machine: Machine, name: str, given: list[object]) -> object:
    """Return what a function of a library makes of small tensors; a large one, or a model, it may do anything with."""
    if name in LOOKED_AT:
        return given[0] if name == "unwrap_model" else None
    if any(_is_large(each) or isinstance(each, Model) for each in given):
        raise GivenUp(f"{name} of what is counted")
    flat: list[object] = []
    waiting = list(given)
    while waiting:
        each = waiting.pop()
        waiting += list(each.items.values()) if isinstance(each, Group) else []
        flat.append(each)
    tensors = [each for each in flat if isinstance(each, Tensor)]
    return machine.small(*tensors) if tensors else None


def _method(
    machine: Machine,
    name: str,
    owner: Tensor,
    given: list[object],
    named: dict[str | None, object],
    node: ast.Call,
) -> object:
    if name == "detach":
        return Tensor(owner.storage, owner.share, owner.width, owner.is_flat)
    if name in TELLS or name in ("item", "tolist", "cpu", "numpy"):
        return None
    if name == "chunk" and given and getattr(given[0], "value", None) == 2:
        machine.halves.add("unpacked")
    if owner.storage is None:
        if any(_is_large(each) for each in given):
            raise GivenUp(f"{name} with logits")
        others = [each for each in given if isinstance(each, Tensor)]
        return machine.small(owner, *others)
    if name in ("to", "type"):
        return _cast(machine, owner, node)
    if name in ("chunk", "split", "tensor_split"):
        return owner  # taken apart where it is unpacked
    if name in OPERATIONS:
        return _operated(machine, name, [owner, *given], named, node)
    if name in ("div", "mul", "sub", "add"):
        other = given[0] if given and isinstance(given[0], Tensor) else Tensor()
        return machine.combined(name.capitalize().replace("Mul", "Mult"), owner, other)
    raise GivenUp(f"{name} of logits")


def _cast(machine: Machine, owner: Tensor, node: ast.Call) -> object:
    words = [written(each) for each in (*node.args, *(k.value for k in node.keywords))]
    for word in words:
        width = DTYPES.get(word.rpartition(".")[2])
        if width is not None:
            return machine.cast(owner, width)
        if word.endswith("dtype"):
            raise GivenUp("a dtype that is not read")
    return owner  # to a device that it is on


def _operated(
    machine: Machine,
    name: str,
    given: list[object],
    named: dict[str | None, object],
    node: ast.Call,
) -> object:
    first = given[0] if given else named.get("input")
    others = [each for each in given[1:] if isinstance(each, (Tensor, Group))]
    if any(_is_large(each) for each in others):
        raise GivenUp(f"{name} of several tensors")
    if not isinstance(first, Tensor):
        return None
    if first.storage is None:
        return machine.small(first)
    width = 0
    for keyword in node.keywords:
        if keyword.arg == "dtype":
            width = DTYPES.get(last_name(keyword.value), 0)
            if not width:
                raise GivenUp("a dtype that is not read")
        if keyword.arg in ("weight", "label_smoothing") and name == "cross_entropy":
            raise GivenUp("a cross entropy with weights")
    result = machine.operated(name, first, width)
    if result is None:
        raise GivenUp(f"{name} of logits")
    return result


def _joined(machine: Machine, group: Group) -> object:
    tensors = [each for each in group.items.values() if isinstance(each, Tensor)]
    large = [each for each in tensors if each.storage is not None]
    if not large:
        return machine.small(*tensors)
    share = sum((each.share for each in large), Fraction(0))
    like = Tensor(share=share, width=max(each.width for each in large))
    return machine.made(like, [(each, Fraction(0)) for each in tensors])


def _of_group(machine: Machine, name: str, owner: Group, given: list[object]) -> object:
    if name in ("get", "pop") and given and isinstance(given[0], Constant):
        key = given[0].value
        found = owner.items.get(repr(key), owner.items.get(key))
        if name == "pop":
            owner.items.pop(repr(key), None)
        return found
    if any(map(_counts, given)) or any(map(_is_large, owner.items.values())):
        raise GivenUp(f"{name} of several values")
    return None


def _bound(
    machine: Machine,
    function: ast.FunctionDef,
    node: ast.Call,
    given: list[object],
    named: dict[str | None, object],
) -> dict[str, object]:
    """Return the names that a function begins with: its arguments, and the defaults of those that nobody gives."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    is_static = any(written(each) == "staticmethod" for each in function.decorator_list)
    if names[:1] in (["self"], ["cls"]) and not is_static:
        names = names[1:]
    is_handed_on = any(isinstance(each, ast.Starred) for each in node.args) or None in named
    if is_handed_on and any(map(_counts, [*given, *named.values()])):
        raise GivenUp("arguments that are handed on")
    frame: dict[str, object] = {}
    defaults = function.args.defaults
    for name, default in zip(names[len(names) - len(defaults) :], defaults, strict=False):
        frame[name] = Constant(default.value) if isinstance(default, ast.Constant) else None
    for argument, other in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        frame[argument.arg] = Constant(other.value) if isinstance(other, ast.Constant) else None
    if len(given) > len(names):
        raise GivenUp("more arguments than names")
    frame.update(zip(names, given, strict=False))
    frame.update({name: value for name, value in named.items() if name is not None})
    return frame

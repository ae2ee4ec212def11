"""Which methods that a class derived from a library's trainer has may change what a step holds, and which cannot.

A method of four kinds cannot: one that runs before training or writes what is there; one that is given numbers per row and
makes others of them; one that calls the same method above it with what it was given, and adds numbers per row; one of the
class's own that only those call. Whatever runs a model, keeps on its object what has a graph, or hands other rows on may.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Mapping

from preflight.scripts.losses.own_losses import MODEL, runs_model
from preflight.scripts.python.nodes import children, last_name, root_of, targets_of, unparse, walk
from preflight.trainers.handed_on import (
    KEEPS,
    hands_on,
    is_above,
    is_called_above,
    only_sets,
    parameters,
)
from preflight.trainers.trainer_methods import BASES, HARMLESS, KINDS, OF_LOSS, OF_ROWS, PER_ROW
from preflight.values import NamedTuple

_READ_OF_MODELS = frozenset({"config", "generation_config", "device", "dtype", "training", "name_or_path"})  # fmt: skip
_TOLD = frozenset({"item", "tolist", "detach", "numpy"})
_WORDS = frozenset({"float", "int", "len", "str", "bool"})
"""What makes a value without a graph of another, as a method and as a function."""
_LIBRARIES = frozenset(
    {"torch", "F", "nn", "math", "np", "numpy", "warnings", "logger", "logging", "wandb", "os", "json", "time", "random", "re"}
)  # fmt: skip
_MAKES = frozenset(
    {"zeros", "ones", "empty", "full", "rand", "randn", "arange", "eye", "one_hot", "deepcopy", "Linear", "Embedding",
     "Parameter", "load", "compile", "forward", "generate", "backward", "retain_grad", "register_hook", "repeat",
     "repeat_interleave", "tile", "expand", "outer", "kron", "cdist", "matmul", "mm", "bmm", "einsum", "apply"}
)  # fmt: skip
"""Calls of a library, or of a value, by which more than a number per row is made, or a model is run."""


class Override(NamedTuple):
    """A method of a class that may change what a step holds."""

    owner: str
    name: str

    @property
    def rank(self) -> int:
        """Return where it stands among those that are named, those first of which most is known."""
        kinds = [*dict.fromkeys(KINDS.values())]
        return kinds.index(KINDS[self.name]) if self.name in KINDS else len(kinds)

    @property
    def is_of_rows(self) -> bool:
        """Whether it says which rows a model gets, and how often."""
        return self.name in OF_ROWS

    def __str__(self) -> str:
        known = KINDS.get(self.name)
        method = f"{self.owner}.{self.name}"
        return f"what {method} does" if known is None else f"{known} in {method}"


class Methods:
    """The methods of a chain of classes, the one that is made first."""

    def __init__(self, classes: Iterable[ast.ClassDef], imported: frozenset[str]) -> None:
        self.imported = imported
        """Functions of libraries that the files of these classes name."""
        self.own: dict[str, ast.FunctionDef] = {}
        self.overrides: list[Override] = []
        """Those that may change what a step holds."""
        owners: dict[str, str] = {}
        for cls in classes:
            for node in cls.body:
                if isinstance(node, ast.FunctionDef) and node.name not in self.own:
                    self.own[node.name], owners[node.name] = node, cls.name
                elif isinstance(node, ast.FunctionDef):
                    if is_called_above(self.own[node.name]):
                        self.overrides.append(Override(cls.name, node.name))
                elif not _is_text(node):
                    self.overrides.append(Override(cls.name, getattr(node, "name", "__init__")))
        self.overrides += [Override(owners[n], n) for n in self.own if not self._is_harmless(n)]

    def _is_harmless(self, name: str) -> bool:
        function = self.own[name]
        if name in HARMLESS:
            calls = [node.func for node in walk(function) if isinstance(node, ast.Call)]
            return not any(MODEL.match(unparse(e)) or last_name(e) in _INFERS for e in calls)
        if name == "__init__":
            return only_sets(function)
        if name in PER_ROW:
            return self._is_small(function)
        if is_called_above(function):
            return hands_on(function) and self._is_small(function)
        is_called = any(
            isinstance(node, ast.Call) and unparse(node.func) == f"self.{name}"
            for each in self.own.values()
            for node in walk(each)
        )
        return name not in BASES and is_called and self._is_small(function)

    @property
    def are_of_loss(self) -> bool:
        """Whether all that may change what a step holds is what its loss runs, and asks nothing else of the trainer below."""
        if "compute_loss" not in self.own or not {o.name for o in self.overrides} <= OF_LOSS:
            return False
        for name in OF_LOSS & {*self.own}:
            calls = [node for node in walk(self.own[name]) if isinstance(node, ast.Call)]
            asked = {unparse(each.func) for each in calls}
            below = {each.rpartition(".")[2] for each in asked if each.startswith(("self.", "super()."))}  # fmt: skip
            if any(each.startswith("super().") for each in asked) or below & (BASES - {*self.own} - _GIVE_ROWS):  # fmt: skip
                return False
            if not all(self._keeps_told(each, self.own[name]) for each in calls):
                return False
            if name == "prediction_step" and (
                sum(last_name(each.func) in OF_LOSS for each in calls) > 1
                or any(map(runs_model, calls))
            ):
                return False
        return True

    def _keeps_told(self, call: ast.Call, function: ast.FunctionDef) -> bool:
        given = (*call.args, *(each.value for each in call.keywords))
        is_kept = last_name(call.func) in KEEPS and unparse(call.func).startswith("self.")
        return not is_kept or all(_is_told(each, function) for each in given)

    def _is_small(self, function: ast.FunctionDef, depth: int = 0) -> bool:
        """Tell whether a function makes numbers per row of what it is given, and keeps nothing that has a graph."""
        nodes = walk(function)
        if depth > _MOST_DEPTH or any(isinstance(node, _LARGE) for node in nodes):
            return False
        above = {id(below): node for node in nodes for below in children(node)}
        values = _values_of(function) | self.imported
        for node in nodes:
            if isinstance(node, (ast.Attribute, ast.Name)) and _is_model(node, above, function.name):  # fmt: skip
                return False
            if isinstance(node, ast.Attribute) and node.attr in _OF_OUTPUTS:
                return False
            if isinstance(node, ast.Subscript) and getattr(node.slice, "value", "") in _OF_OUTPUTS:
                return False
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
                return False
            if isinstance(node, ast.Call):
                is_small = self._is_small_call(node, function, values, depth)
                if not is_small or not self._keeps_told(node, function):
                    return False
            if isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)) and node.value is not None:  # fmt: skip
                is_kept = any(unparse(each).startswith("self.") for each in targets_of(node))
                if is_kept and not _is_told(node.value, function):
                    return False
        return True

    def _is_small_call(
        self, call: ast.Call, function: ast.FunctionDef, values: set[str], depth: int
    ) -> bool:
        name, last = unparse(call.func), last_name(call.func)
        if name == "super" or is_above(call, function.name):
            return True
        if name.startswith("super()") or last in _MAKES:
            return False
        if name.startswith("self.") and name.count(".") == 1:
            return last in HARMLESS or (last in self.own and self._is_small(self.own[last], depth + 1))  # fmt: skip
        if isinstance(call.func, ast.Name):
            return name in self.imported or (hasattr(builtins, name) and name not in _RUNS)
        if name.startswith("self."):
            return last in KEEPS or name.startswith("self.accelerator.gather")
        root: ast.AST = call.func
        while isinstance(root, (ast.Attribute, ast.Subscript, ast.Call)):
            root = root.func if isinstance(root, ast.Call) else root.value
        if isinstance(root, ast.Name):
            return root.id in _LIBRARIES or root.id in values
        return isinstance(root, (ast.BinOp, ast.Constant, ast.Compare, ast.JoinedStr, ast.UnaryOp))


_GIVE_ROWS = frozenset({"concatenated_inputs", "null_ref_context", "compute_loss_context_manager"})
"""Methods of TRL's trainers of pairs that a loss may ask for rows, and for how to run (trl/trainer/dpo_trainer.py 0.7.11 to 0.28)."""
_INFERS = frozenset({"generate", "forward", "backward", "evaluate", "predict"})
_LARGE = (ast.Global, ast.Nonlocal, ast.ClassDef, ast.Yield, ast.YieldFrom)
_OF_OUTPUTS = ("logits", "hidden_states", "attentions", "past_key_values")
_RUNS = frozenset({"exec", "eval", "setattr", "__import__", "map", "globals"})
_MOST_DEPTH = 8


def _values_of(function: ast.FunctionDef) -> set[str]:
    """Return the names of what a function is given, and of what it makes of that by operators, calls and texts."""
    names = {*parameters(function)} - {"self"}
    for node in walk(function):
        if isinstance(node, ast.Assign) and not isinstance(node.value, (ast.Attribute, ast.Subscript, ast.Name)):  # fmt: skip
            targets = [each for target in node.targets for each in walk(target)]
            names |= {each.id for each in targets if isinstance(each, ast.Name)}
    others = {
        target.id
        for node in walk(function)
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Attribute, ast.Subscript, ast.Name))
        and root_of(node.value) not in names
        for each in node.targets
        for target in walk(each)
        if isinstance(target, ast.Name)
    }  # fmt: skip
    return names - others


def _is_model(node: ast.Attribute | ast.Name, above: Mapping[int, ast.AST], method: str) -> bool:
    """Tell whether a node is a model, of which more is asked than what it is."""
    if not MODEL.match(unparse(node)) or not isinstance(node.ctx, ast.Load):
        return False
    parent = above.get(id(node))
    if isinstance(parent, ast.keyword):
        parent = above.get(id(parent))
    is_read = isinstance(parent, ast.Attribute) and parent.attr in _READ_OF_MODELS
    is_handed_on = isinstance(parent, ast.Call) and is_above(parent, method)
    is_asked = isinstance(parent, ast.Call) and unparse(parent.func) in ("isinstance", "hasattr")
    return not (is_read or is_handed_on or is_asked)


def _is_told(value: ast.expr, function: ast.FunctionDef, depth: int = 0) -> bool:
    """Tell whether a value surely has no graph behind it."""
    if isinstance(value, ast.Constant):
        return True
    if isinstance(value, ast.Call):
        is_method = isinstance(value.func, ast.Attribute)
        if last_name(value.func) in (_TOLD if is_method else _WORDS):
            return True
        inner = value.func.value if isinstance(value.func, ast.Attribute) else None
        return inner is not None and not unparse(inner).startswith("self") and _is_told(inner, function, depth)  # fmt: skip
    if isinstance(value, ast.Name) and depth < 4:
        set_to = [
            node.value
            for node in walk(function)
            if isinstance(node, ast.Assign) and any(unparse(t) == value.id for t in node.targets)
        ]
        return bool(set_to) and all(_is_told(each, function, depth + 1) for each in set_to)
    if isinstance(value, (ast.BinOp, ast.Dict, ast.List, ast.Tuple)):
        parts = [each for each in children(value) if isinstance(each, ast.expr)]
        return all(_is_told(each, function, depth) for each in parts)
    return False


def _is_text(node: ast.stmt) -> bool:
    is_docs = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    is_name = isinstance(node, ast.Assign) and isinstance(node.value, (ast.Constant, ast.List))
    is_typed = isinstance(node, ast.AnnAssign) and (node.value is None or isinstance(node.value, ast.Constant))  # fmt: skip
    return is_docs or is_name or is_typed or isinstance(node, ast.Pass)

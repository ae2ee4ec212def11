"""Expressions of a step of somebody's own, worked out without numbers: what becomes of the model's logits."""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from preflight.scripts.losses.loss_graph import Group, Outputs, Tensor, storages, total
from preflight.scripts.losses.loss_operations import Operations
from preflight.scripts.losses.loss_values import (
    GIVES_NOTHING,
    OTHER_MODEL,
    REFERENCE,
    Constant,
    Functions,
    GivenUp,
    Impossible,
    Model,
    written,
)
from preflight.scripts.losses.own_losses import MODEL
from preflight.scripts.python.nodes import children, last_name, walk


def _is_written(cut: ast.Slice) -> bool:
    """Tell whether a slice is written with numbers: `outputs[:5]`."""
    ends = (cut.lower, cut.upper)
    return cut.step is None and all(e is None or isinstance(e, ast.Constant) for e in ends)


class Expressions(Operations, ABC):
    """One run of a step: its names, and what expressions make of them."""

    def __init__(
        self,
        functions: Functions,
        outputs: int,
        answers: Sequence[bool],
        known: Mapping[str, bool],
    ) -> None:
        super().__init__()
        self.functions = functions
        self.outputs = outputs
        """Bytes of a logit as the model returns it."""
        self.known = known
        """Questions that only running answers, answered before."""
        self.answers = list(answers)
        """What the others are answered with, in order; False from then on."""
        self.asked: dict[str, bool] = {}
        self.frames: list[dict[str, object]] = []
        self.lines: list[frozenset[int]] = []
        self.num_statements = 0
        self.forwards = 0
        self.compares = ""
        self.before_reference = self.beside = self.waiting = Fraction(0)
        self.backward: Fraction | None = None
        self.halves: set[str] = set()
        self.doubts: set[str] = set()
        self.makes_rows = False
        self.caches_keys = False
        self.asks_layers: set[ast.Call] = set()
        """Calls of a model that ask for the outputs of every layer."""

    def held(self) -> Iterable[object]:
        return [*(value for frame in self.frames for value in frame.values()), *self.stack]

    def is_so(self, question: str) -> bool:
        """Answer what only running tells, the same way each time; what follows the gradient frees nothing."""
        if self.backward is not None:
            return False
        if question in self.known:
            return self.known[question]
        if question not in self.asked:
            number = len(self.asked)
            if number >= len(self.answers):
                self.answers.append(False)
            self.asked[question] = self.answers[number]
        return self.asked[question]

    def test(self, node: ast.expr) -> bool | None:
        """Return what a condition is, None where only running tells."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            said = self.test(node.operand)
            return None if said is None else not said
        text = written(node)
        if text.endswith("is_encoder_decoder"):
            return False
        if isinstance(node, ast.Constant):
            return bool(node.value)
        value = self.frames[-1].get(text)
        if isinstance(value, Constant):
            return bool(value.value)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Is, ast.IsNot)):
            left = self.frames[-1].get(written(node.left))
            if isinstance(left, (Tensor, Outputs)) or (
                isinstance(left, Constant) and left.value is None
            ):
                return isinstance(left, Constant) == isinstance(node.ops[0], ast.Is)
        return None

    def evaluated(self, node: ast.expr) -> object:
        depth = len(self.stack)
        value = self._value(node)
        del self.stack[depth:]
        return value

    def _value(self, node: ast.expr) -> object:
        if isinstance(node, ast.Constant):
            return Constant(node.value)
        if isinstance(node, ast.Name):
            return self.named(node.id)
        if isinstance(node, ast.Attribute):
            return self._attribute(node)
        if isinstance(node, ast.Call):
            return self.called(node)
        if isinstance(node, ast.BinOp):
            return self._operator(node)
        if isinstance(node, ast.UnaryOp):
            given = self.on_stack(node.operand)
            if isinstance(given, Tensor) and given.storage is not None:
                return self.operated("neg", given, 0)
            return given if isinstance(given, Tensor) else None
        if isinstance(node, ast.Subscript):
            return self._subscript(node)
        if isinstance(node, (ast.Tuple, ast.List)):
            return Group(dict(enumerate([self.on_stack(each) for each in node.elts])))
        if isinstance(node, ast.Dict):
            keys = ["**" if key is None else written(key) for key in node.keys]
            return Group(
                dict(zip(keys, [self.on_stack(each) for each in node.values], strict=True))
            )
        if isinstance(node, ast.IfExp):
            said = self.test(node.test)
            if said is None:
                ways = [each for each in (node.body, node.orelse) if self._matters(each)]
                if not ways and not isinstance(node.body, ast.Dict):
                    return None
                said = self.is_so(written(node.test))
            return self._value(node.body if said else node.orelse)
        if isinstance(node, ast.Compare):
            large = [self.on_stack(each) for each in (node.left, *node.comparators)]
            if any(isinstance(each, Tensor) and each.storage is not None for each in large):
                raise GivenUp("a mask of logits")
            return None
        for each in children(node):
            if isinstance(each, ast.expr) and self._matters(each):
                raise GivenUp(f"{type(node).__name__} of what is counted")
        return None

    def _matters(self, node: ast.expr) -> bool:
        """Tell whether an expression reads what is counted, or may call a model."""
        for each in walk(node):
            if isinstance(each, (ast.Name, ast.Attribute)):
                value = self.frames[-1].get(written(each))
                if isinstance(value, (Outputs, Group)) or (
                    isinstance(value, Tensor) and (value.storage or value.nodes)
                ):
                    return True
                name = each.id if isinstance(each, ast.Name) else each.attr
                if any(map(self.functions.calls_a_model, self.functions.named(name))):
                    return True
            if isinstance(each, ast.Call) and self._leads_to_model(each):
                return True
        return False

    def _touches(self, node: ast.stmt) -> bool:
        """Tell whether a statement reads or sets what is counted, or leaves its function."""
        inner = walk(node)
        jumps = (ast.Return, ast.Raise, ast.Break, ast.Continue)
        return any(
            isinstance(each, jumps) or (isinstance(each, ast.expr) and self._matters(each))
            for each in inner
        )

    def _leads_to_model(self, call: ast.Call) -> bool:
        if MODEL.match(written(call.func)):
            return True
        return any(map(self.functions.calls_a_model, self.functions.named(last_name(call.func))))

    def on_stack(self, node: ast.expr) -> object:
        """Return the value of a part of an expression, which lives until the whole has one."""
        value = self.evaluated(node)
        self.stack.append(value)
        return value

    def named(self, text: str) -> object:
        # what is set on an object lives as long as the step
        frame = self.frames[0] if "." in text else self.frames[-1]
        if frame.get(text) is not None:
            return frame[text]
        if MODEL.match(text):
            name = text.rpartition(".")[2]
            if OTHER_MODEL.search(name):
                raise GivenUp(f"another model, {name}")
            return Model(REFERENCE.search(name) is not None)
        found = self.functions.named(text.rpartition(".")[2])
        if len(found) != 1:
            return None
        is_property = any(written(each) == "property" for each in found[0].decorator_list)
        if is_property and "." in text:
            return self.entered(found[0], {})
        return None if is_property or "." in text else found[0]

    def _attribute(self, node: ast.Attribute) -> object:
        text = written(node)
        found = self.named(text)
        if found is not None:
            return found
        owner = self.on_stack(node.value)
        if isinstance(owner, Outputs):
            return self.of_outputs(owner, node.attr)
        if (
            isinstance(owner, Tensor)
            and owner.storage is not None
            and node.attr not in GIVES_NOTHING
        ):
            if node.attr in ("data", "T", "mT"):
                return Tensor(
                    owner.storage, owner.share, owner.width, owner.is_flat and node.attr == "data"
                )
            raise GivenUp(f"{node.attr} of logits")
        if isinstance(owner, Group) and self._matters(node.value):
            raise GivenUp("an attribute of several values")
        return None

    def of_outputs(self, outputs: Outputs, name: object) -> object:
        if name == "logits":
            return outputs.logits
        if name in ("loss", 0):
            if outputs.loss is None:
                if name == 0:
                    return outputs.logits
                raise Impossible
            return outputs.loss
        if name == 1 and outputs.loss is not None:
            return outputs.logits
        if name in ("hidden_states", "attentions", "last_hidden_state"):
            raise GivenUp(f"{name} of the model")
        return None

    def _operator(self, node: ast.BinOp) -> object:
        left, right = self.on_stack(node.left), self.on_stack(node.right)
        tensors = [each for each in (left, right) if isinstance(each, Tensor)]
        if not tensors:
            return None
        return self.combined(
            type(node.op).__name__,
            left if isinstance(left, Tensor) else Tensor(),
            right if isinstance(right, Tensor) else Tensor(),
        )

    def _subscript(self, node: ast.Subscript) -> object:
        owner = self.on_stack(node.value)
        if isinstance(owner, Outputs):
            is_plain = isinstance(node.slice, ast.Constant)
            return self.of_outputs(owner, getattr(node.slice, "value", None) if is_plain else None)
        if isinstance(owner, Group):
            key = written(node.slice)
            number = int(key) if key.lstrip("-").isdecimal() else key
            if number in owner.items:
                return owner.items[number]
            if isinstance(node.slice, ast.Slice) and _is_written(node.slice):
                first, last = (getattr(e, "value", None) for e in (node.slice.lower, node.slice.upper))  # fmt: skip
                return Group(dict(enumerate([*owner.items.values()][first:last])))
            if self._matters(node.value):
                raise GivenUp("one of several values")
            return None
        if not isinstance(owner, Tensor):
            return self.frames[-1].get(written(node))
        if isinstance(node.slice, ast.Slice):
            self._note_half(node.slice)
        if owner.storage is None:
            return owner
        return self._cut(owner, node.slice)

    def _note_half(self, cut: ast.Slice) -> None:
        """Note that the first or the second half of the rows is taken."""
        if cut.step is not None:
            self.halves.add("begin" if written(cut.lower or ast.Constant(0)) == "0" else "end")
            return
        bounds = [each for each in (cut.lower, cut.upper) if each is not None]
        if len(bounds) == 1 and not isinstance(bounds[0], ast.Constant):
            self.halves.add("begin" if cut.lower is None else "end")

    def _cut(self, owner: Tensor, cut: ast.expr) -> Tensor:
        parts = cut.elts if isinstance(cut, ast.Tuple) else [cut]
        if not all(
            isinstance(each, ast.Slice)
            or (isinstance(each, ast.Constant) and each.value in (..., None))
            for each in parts
        ):
            raise GivenUp("entries of logits")
        if len(parts) == 1 and isinstance(parts[0], ast.Slice):
            is_half = parts[0].step is not None or not all(
                each is None or isinstance(each, ast.Constant)
                for each in (parts[0].lower, parts[0].upper)
            )
            share = owner.share / 2 if is_half else owner.share
            return self.viewed(owner, share, parts[0].step is None)
        return self.viewed(owner, owner.share, False)

    @abstractmethod
    def called(self, node: ast.Call) -> object:
        """Return what a call gives back; raise GivenUp where it does what is not known with what is counted."""

    def alive(self) -> Fraction:
        return total(storages(self.held(), self.released))

    @abstractmethod
    def entered(self, function: ast.FunctionDef, given: dict[str, object]) -> object:
        """Return what a function gives back that begins with some names."""

"""Runs a step of somebody's own without numbers: what becomes of the model's logits, and how much of it is alive at once.

Names hold tensors as large as logits, small ones, or nothing that matters. What only running tells is tried both ways,
one run for each. A step that does anything else with large tensors than is known here is given up as a whole.
"""

from __future__ import annotations

import ast
from abc import ABC
from collections.abc import Sequence
from fractions import Fraction

from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.losses.loss_expressions import Expressions
from preflight.scripts.losses.loss_graph import Group, Node, Outputs, Storage, Tensor, gone_back
from preflight.scripts.losses.loss_operations import WIDE
from preflight.scripts.losses.loss_values import GivenUp, Impossible, Model, Returned, written
from preflight.scripts.python.nodes import walk
from preflight.scripts.python.without_graph import (
    MAKE_NO_GRAPH,
    may_run_without_graph,
    runs_without_graph,
)
from preflight.scripts.reach.reach_files import may_run

MOST_DEPTH = 12
_ENDS = lazy_pattern(r"detach|\bitem\b|\bdata\b|tolist|numpy|zeros|ones|tensor\(")
"""What leaves a value without the graph behind it."""
_ASKS = lazy_pattern(r"label|logits|output_|use_cache|input_ids|past")
"""Arguments of a model that decide what it gives back."""
_NO_AUTOCAST = lazy_pattern(
    rf"{'|'.join(MAKE_NO_GRAPH)}|accumulate|no_sync|nullcontext|null_ref|disable_adapter"
)
MOST_STATEMENTS = 3_000


class Machine(Expressions, ABC):
    """One run of a step."""

    def run(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.num_statements += 1
            if self.num_statements > MOST_STATEMENTS:
                raise GivenUp("a long step")
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        frame = self.frames[-1]
        if isinstance(node, ast.If):
            self.branch(node)
        elif isinstance(node, (ast.With, ast.AsyncWith)):
            self.within(node)
        elif self.lines[-1] and node.lineno not in self.lines[-1]:
            return  # nothing of this launch leads there
        elif isinstance(node, ast.Assign):
            value = self.evaluated(node.value)
            for target in node.targets:
                self.bind(target, value)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.bind(node.target, self.evaluated(node.value))
        elif isinstance(node, ast.AugAssign):
            self.augment(node)
        elif isinstance(node, ast.Expr):
            self.evaluated(node.value)
        elif isinstance(node, ast.Return):
            raise Returned(None if node.value is None else self.evaluated(node.value))
        elif isinstance(node, ast.Delete):
            for target in node.targets:
                frame.pop(written(target), None)
        elif isinstance(node, (ast.For, ast.While)):
            self.loop(node)
        elif isinstance(node, ast.Try):
            self.run(node.body)
        elif isinstance(node, ast.Raise):
            raise Impossible
        elif isinstance(node, (ast.Break, ast.Continue)):
            raise Returned(None)  # of the step itself: loops inside it are left out
        elif isinstance(node, ast.Match):
            raise GivenUp("a match")

    def branch(self, node: ast.If) -> None:
        said = self.test(node.test)
        lines = self.lines[-1]
        ways = [w for w in (node.body, node.orelse) if w and (not lines or may_run(w, lines))]
        if said is None and node.body not in ways:
            said = False
        elif said is None and node.orelse and node.orelse not in ways:
            said = True
        if said is None and isinstance(node.body[-1], ast.Raise):
            said = False
        if said is None:
            if not any(map(self._touches, (*node.body, *node.orelse))):
                return
            said = self._only_adds(node) or self.is_so(written(node.test))
        self.run(node.body if said else node.orelse)

    def _only_adds(self, node: ast.If) -> bool:
        """Tell whether a condition only leads to more of what is there: a number that is added to a small one, an entry of a
        dictionary. What only running tells is taken to lead there, which takes no less.
        """
        for each in node.body:
            if isinstance(each, ast.If) and self._only_adds(each):
                continue
            target = each.targets[0] if isinstance(each, ast.Assign) else getattr(each, "target", None)  # fmt: skip
            value = getattr(each, "value", None)
            if node.orelse or target is None or value is None or _ENDS.search(written(value)):
                return False
            is_entry = isinstance(target, ast.Subscript) and not _ASKS.search(written(target.slice))
            is_added = isinstance(each, ast.AugAssign) or written(target) in map(written, walk(value))  # fmt: skip
            if not (is_entry or is_added) or any(map(self._is_counted, walk(each))):
                return False
            if isinstance(self.frames[-1].get(written(target)), Tensor):
                self.doubts.add("a loss that may be added")
        return True

    def _is_counted(self, node: ast.AST) -> bool:
        """Tell whether a node is as large as logits, a model, or a call that leads to one."""
        if isinstance(node, ast.Call) and self._leads_to_model(node):
            return True
        value = self.frames[-1].get(written(node)) if isinstance(node, (ast.Name, ast.Attribute)) else None  # fmt: skip
        return isinstance(value, (Outputs, Model)) or (isinstance(value, Tensor) and value.storage is not None)  # fmt: skip

    def within(self, node: ast.With | ast.AsyncWith) -> None:
        was_aside, was_autocast = self.is_aside, self.is_autocast
        if runs_without_graph(node):
            self.is_aside = True
        elif not self.is_aside and may_run_without_graph(node):
            self.is_aside = self.is_so(f"no graph under {' and '.join(map(written, node.items))}")
        # with its own the model's outputs have 16 bits, and accelerate makes no fp32 of them
        for item in node.items:
            text = written(item.context_expr)
            if "autocast" in text:
                self.is_autocast = "enabled=False" not in text
                self.doubts.add("autocast of a step's own")
            elif not _NO_AUTOCAST.search(text):
                self.is_autocast = self.is_so(f"autocast by {text}")
        self.run(node.body)
        self.is_aside, self.is_autocast = was_aside, was_autocast

    def loop(self, node: ast.For | ast.While) -> None:
        """Leave out a loop that looks at nothing that is counted."""
        for each in walk(node):
            is_used = isinstance(each, (ast.Name, ast.Attribute)) and isinstance(
                self.frames[-1].get(written(each)), (Tensor, Outputs, Model)
            )
            if is_used or (isinstance(each, ast.Call) and self._leads_to_model(each)):
                raise GivenUp("a loop")

    def augment(self, node: ast.AugAssign) -> None:
        name = written(node.target)
        before, value = self.frames[-1].get(name), self.evaluated(node.value)
        if isinstance(before, Tensor) and before.storage is not None:
            if isinstance(value, Tensor) and value.nodes:
                raise GivenUp("a change in place")
            nodes = self.node([(before, before.size)])
            value = Tensor(before.storage, before.share, before.width, before.is_flat, nodes)
        elif isinstance(before, Tensor) or isinstance(value, Tensor):
            large = [each for each in (before, value) if isinstance(each, Tensor)]
            value = self.combined(
                type(node.op).__name__, large[0], large[-1] if len(large) > 1 else Tensor()
            )
        self.frames[-1][name] = value

    def bind(self, target: ast.expr, value: object) -> None:
        frame = self.frames[-1]
        if isinstance(target, (ast.Tuple, ast.List)):
            for number, each in enumerate(target.elts):
                self.bind(each, self.item(value, number, len(target.elts)))
        elif isinstance(target, ast.Subscript):
            holder = self.evaluated(target.value)
            if isinstance(holder, Tensor) and holder.storage is not None:
                raise GivenUp("a change in place")
            if isinstance(holder, Group):
                holder.items[written(target.slice)] = value
            else:
                frame[written(target)] = value
        elif isinstance(target, ast.Attribute):
            self.frames[0][written(target)] = value
        else:
            frame[written(target)] = value

    def item(self, value: object, number: int, count: int) -> object:
        """Return one of the values that something is unpacked to."""
        if isinstance(value, Group):
            items = list(value.items.values())
            return items[number] if len(items) == count else None
        if isinstance(value, Tensor) and value.storage is not None:
            self.halves.add("unpacked")
            return self.viewed(value, value.share / count, True)
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Outputs):
            raise GivenUp("outputs in order")
        return None

    def forward(self, model: Model, has_labels: bool) -> Outputs:
        """Return what a model gives back, a graph behind it unless there is none."""
        if self.backward is not None:
            raise GivenUp("a forward after the gradient was taken")
        if model.is_reference and self.has_graph:
            raise GivenUp("a reference with a graph")
        was_aside = self.is_aside
        self.is_aside = was_aside or model.is_reference
        if self.is_aside:
            self._compare("reference" if model.is_reference else "itself")
        elif self.has_graph and self.compares and self.alive():
            raise GivenUp("logits of a reference that live while the model runs")
        self.forwards += not self.is_aside
        leaf: tuple[Node, ...] = ()
        if self.has_graph:
            self.number += 1
            leaf = (Node(self.number),)
        logits = Tensor(Storage(Fraction(self.outputs)), Fraction(1), self.outputs, True, leaf)
        self.stack.append(logits)
        self.note()
        loss = None
        if has_labels:
            # padded, not cut, since 4.50; before, a copy of all but the last is read (transformers/loss/loss_utils.py)
            self.note(Storage(Fraction(3 * WIDE)))
            loss = self.operated("cross_entropy", self.cast(logits, WIDE), 0)
        self.is_aside = was_aside
        return Outputs(logits, loss)

    def _compare(self, what: str) -> None:
        """Note a forward without a graph, and what lives beside it."""
        if self.compares not in ("", what):
            raise GivenUp("a reference beside the model itself")
        if not self.compares:
            self.before_reference, self.most = self.most, Fraction(0)
        if self.compares or self.forwards == 0:
            self.doubts.add("a reference that runs first, or twice")
        self.compares = what
        self.beside = max(self.beside, self.alive())

    def go_back(self, loss: object) -> None:
        """Take the gradient of a loss."""
        if self.evaluates:
            return
        if self.backward is not None or not isinstance(loss, Tensor) or not loss.nodes:
            raise GivenUp("the loss that the gradient is taken of")
        self.backward, self.waiting = gone_back(loss.nodes, list(self.held()), self.released)

    def entered(self, function: ast.FunctionDef, given: dict[str, object]) -> object:
        if len(self.frames) > MOST_DEPTH:
            raise GivenUp("functions in one another")
        was_aside = self.is_aside
        self.is_aside = was_aside or runs_without_graph(function)
        self.frames.append(given)
        self.lines.append(self.functions.lines.get(id(function), frozenset()))
        try:
            self.run(function.body)
        except Returned as returned:
            return returned.value
        finally:
            self.is_aside = was_aside
            self.frames.pop()
            self.lines.pop()
        return None

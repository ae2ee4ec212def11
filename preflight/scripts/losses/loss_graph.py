"""Tensors as large as a model's logits, the graph that autograd keeps of them, and what a backward pass takes.

Everything is in bytes per logit of all rows that a step sees, so that one count holds for every batch and vocabulary.
What an operation saves and makes is read of torch's derivatives (tools/autograd/derivatives.yaml, 2.13) and counted on
real steps by tests/formulas/test_own_steps.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from fractions import Fraction

from preflight.values import dataclass


class Storage:
    """Memory that tensors share; each is itself alone, whatever its size."""

    def __init__(self, size: Fraction) -> None:
        self.size = size
        """Bytes per logit of all rows."""


class Node:
    """An operation that autograd goes back through."""

    def __init__(
        self,
        number: int,
        inputs: Sequence[tuple[Node, Fraction]] = (),
        saved: Iterable[Storage | None] = (),
        passing: Fraction = Fraction(0),
    ) -> None:
        self.number = number
        """In the order in which they ran; the last goes back first."""
        self.inputs = tuple(inputs)
        """What the tensors that it was given were made by, each with the size of its gradient: 0 where that is a view of
        the one that comes back."""
        self.saved = tuple(each for each in saved if each is not None)
        self.passing = passing
        """What its backward makes beside."""


@dataclass(frozen=True)
class Tensor:
    """A tensor, or what a few numbers were made of."""

    storage: Storage | None = None
    """None where it has an entry per token, or fewer."""
    share: Fraction = Fraction(1)
    """Of all logits that its entries are."""
    width: int = 0
    is_flat: bool = True
    """Whether its entries lie one behind the other."""
    nodes: tuple[Node, ...] = ()
    """What it was made by, if that has a graph."""

    @property
    def size(self) -> Fraction:
        return self.share * self.width


@dataclass
class Outputs:
    """What a model returned."""

    logits: Tensor
    loss: Tensor | None
    """The model's own loss; None where it was given no labels."""


@dataclass
class Group:
    """Values in a tuple, a list or a dictionary."""

    items: dict[object, object] = field(default_factory=dict)


def storages(values: Iterable[object], released: frozenset[int] | set[int]) -> set[Storage]:
    """Return the memory that values hold: their own, and what the graph behind them saved and did not let go."""
    found: set[Storage] = set()
    seen: set[int] = set()
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if value.storage is not None:
                found.add(value.storage)
            waiting += value.nodes
        elif isinstance(value, Outputs):
            waiting += (value.logits, value.loss)
        elif isinstance(value, Group):
            waiting += value.items.values()
        elif isinstance(value, Node):
            if id(value) not in released:
                found.update(value.saved)
            waiting += [each for each, _ in value.inputs]
    return found


def total(held: Iterable[Storage]) -> Fraction:
    return sum((each.size for each in held), Fraction(0))


def gone_back(
    loss: Sequence[Node], held: Sequence[object], released: set[int]
) -> tuple[Fraction, Fraction]:
    """Return the most that is alive while the gradient of a loss is taken, with what values hold beside it; and what is when
    it has come to the logits of the last forward, of those before."""
    gradients: dict[int, Storage | None] = {id(node): None for node in loss}
    most, waiting_then = Fraction(0), None
    for node in _in_order(loss):
        given = gradients.pop(id(node), None)
        passed = {id(each): Storage(size) if size else given for each, size in node.inputs}
        waiting = {*gradients.values(), *passed.values(), given, Storage(node.passing)} - {None}
        alive = storages([*held, *loss], released) | {each for each in waiting if each is not None}
        most = max(most, total(alive))
        released.add(id(node))
        if not node.inputs and waiting_then is None:  # a forward's logits
            left = storages(loss, released) - storages(held, released)
            waiting_then = total(left | {each for each in gradients.values() if each is not None})
        for before, gradient in passed.items():
            # a second gradient is added to the first, in place
            gradients[before] = gradients.get(before) or gradient
    return most, waiting_then or Fraction(0)


def _in_order(loss: Sequence[Node]) -> Iterator[Node]:
    found: dict[int, Node] = {}
    waiting = list(loss)
    while waiting:
        node = waiting.pop()
        if id(node) not in found:
            found[id(node)] = node
            waiting += [each for each, _ in node.inputs]
    yield from sorted(found.values(), key=lambda node: -node.number)

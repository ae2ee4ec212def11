"""What torch's operations make of tensors as large as logits, and what autograd saves for going back.

Source: torch 2.13, tools/autograd/derivatives.yaml, aten/src/ATen/native/cuda/SoftMax.cu (an input that is no flat
tensor is copied), native/ReduceOps.cpp logsumexp, autograd/FunctionsManual.cpp; autocast_mode.h for its list of fp32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction

from preflight.scripts.losses.loss_graph import Node, Storage, Tensor, storages, total

NOTHING = Fraction(0)
WIDE = 4
"""Bytes of fp32."""
IN_FP32 = frozenset({"log_softmax", "softmax", "logsumexp", "cross_entropy", "exp", "sum", "log"})
"""Of what is known here, what autocast runs in fp32."""
KNOWN = frozenset(
    {
        "log_softmax", "softmax", "logsumexp", "gather", "cross_entropy", "exp", "log", "sum", "mean", "max", "amax",
        "contiguous", "clone", "float", "detach", "neg", "take_along_dim",
    }
)  # fmt: skip
LOOKS_ALIKE = frozenset(
    {"view", "squeeze", "unsqueeze", "transpose", "permute", "expand", "requires_grad_"}
)
"""Views whose gradient is a view again."""
FLATTENS = frozenset({"reshape", "flatten"})
TELLS = frozenset(
    {"argmax", "argmin", "argsort", "topk", "size", "dim", "numel", "new_tensor", "new_zeros", "isnan", "isfinite"}
)  # fmt: skip
"""What is taken of a tensor without a graph: what is shown, or looked up."""


class Operations:
    """The tensors that a step makes, and the most that was alive at once."""

    def __init__(self) -> None:
        self.number = 0
        self.most = NOTHING
        self.evaluates = False
        """Whether nothing goes back, as in an evaluation."""
        self.is_aside = False
        """Whether what runs is told to make no graph, where the step is trained on too."""
        self.is_autocast = False
        self.released: set[int] = set()
        self.stack: list[object] = []
        """What parts of an expression gave, until the whole has a value."""

    @property
    def has_graph(self) -> bool:
        return not (self.evaluates or self.is_aside)

    def held(self) -> Iterable[object]:
        """Return every value that a name or an expression at work holds."""
        return ()

    def note(self, *more: Storage) -> None:
        """Record what is alive now, with some memory that nothing holds by a name."""
        self.most = max(self.most, total(storages(self.held(), self.released) | set(more)))

    def made(
        self,
        like: Tensor,
        inputs: Sequence[tuple[Tensor, Fraction]],
        saves: Iterable[Storage | None] = (),
        saves_itself: bool = False,
        passing: Fraction = NOTHING,
    ) -> Tensor:
        """Return a new tensor that is `like` another, and record what is alive as it is made.

        `inputs` are what it is made of, each with the size of its gradient, `passing` what the operation takes beside.
        """
        storage = Storage(like.size)
        self.note(storage, Storage(passing))
        nodes = self.node(inputs, [*saves, storage] if saves_itself else saves)
        return Tensor(storage, like.share, like.width, like.is_flat, nodes)

    def node(
        self,
        inputs: Sequence[tuple[Tensor, Fraction]],
        saved: Iterable[Storage | None] = (),
        passing: Fraction = NOTHING,
    ) -> tuple[Node, ...]:
        before = [(node, size) for each, size in inputs for node in each.nodes]
        if not self.has_graph or not before:
            return ()
        self.number += 1
        return (Node(self.number, before, saved, passing),)

    def cast(self, given: Tensor, width: int) -> Tensor:
        """Return a tensor in another dtype: itself where it has that."""
        if given.storage is None or given.width == width:
            return given
        return self.made(Tensor(share=given.share, width=width), [(given, given.size)])

    def copied(self, given: Tensor) -> Tensor:
        """Return a flat copy, whose gradient is the copy's."""
        return self.made(Tensor(share=given.share, width=given.width), [(given, NOTHING)])

    def viewed(self, given: Tensor, share: Fraction, is_flat: bool) -> Tensor:
        """Return a part of a tensor; its gradient is as large as the whole."""
        nodes = self.node([(given, given.size)])
        return Tensor(given.storage, share, given.width, is_flat and given.is_flat, nodes)

    def small(self, *inputs: Tensor) -> Tensor:
        """Return a few numbers that were made of others."""
        return Tensor(nodes=self.node([(each, NOTHING) for each in inputs]))

    def combined(self, sign: str, left: Tensor, right: Tensor) -> Tensor:
        """Return what an operator makes of two tensors, of which one may be small."""
        large = [each for each in (left, right) if each.storage is not None]
        if not large:
            return self.small(left, right)
        first = max(large, key=lambda each: each.size)
        like = Tensor(share=first.share, width=max(each.width for each in large))
        is_product = sign in ("Mult", "Div", "Pow")
        saves = [
            each.storage
            for each, other in ((left, right), (right, left))
            if is_product and other.nodes
        ]
        # a difference hands the gradient on as it is, and its negative
        grows = is_product or sign == "Sub"
        inputs = [(each, each.size if grows else NOTHING) for each in (left, right)]
        return self.made(like, inputs, saves)

    def operated(self, name: str, given: Tensor, dtype: int) -> Tensor | None:
        """Return what an operation makes of a large tensor, `dtype` bytes wide where it says so; None if that is not known."""
        if name == "detach":
            return Tensor(given.storage, given.share, given.width, given.is_flat)
        if name in LOOKS_ALIKE:
            is_flat = given.is_flat and name not in ("transpose", "permute", "expand")
            return Tensor(given.storage, given.share, given.width, is_flat, given.nodes)
        if name in FLATTENS or name == "contiguous":
            return given if given.is_flat else self.copied(given)
        if name == "clone":
            return self.copied(given)
        if name == "float":
            return self.cast(given, WIDE)
        if self.is_autocast and name in IN_FP32:
            given = self.cast(given, WIDE)
            self.stack.append(given)
        width = dtype or given.width
        like = Tensor(share=given.share, width=width)
        flat = NOTHING if given.is_flat else given.size
        if name in ("log_softmax", "softmax"):
            return self.made(like, [(given, given.size)], saves_itself=True, passing=flat)
        if name == "cross_entropy":
            chances = self.made(given, [(given, given.size)], saves_itself=True, passing=flat)
            return self._picked(chances)
        if name in ("gather", "max", "amax", "take_along_dim"):
            return self._picked(given)
        if name == "logsumexp":
            self.note(Storage(given.size))
            return Tensor(nodes=self.node([(given, given.size)], [given.storage], 2 * given.size))
        if name in ("exp", "log"):
            saves = [given.storage] if name == "log" else []
            return self.made(like, [(given, given.size)], saves, name == "exp")
        if name == "neg":
            return self.made(like, [(given, given.size)])
        if name in ("sum", "mean"):
            if dtype or (self.is_autocast and name == "sum"):
                self.note(Storage(like.size))
            return self.small(given)
        return None

    def _picked(self, given: Tensor) -> Tensor:
        """Return entries that are picked out of a tensor; their gradient is zeros of its size with them among."""
        return Tensor(nodes=self.node([(given, given.size)]))

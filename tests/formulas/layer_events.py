"""The allocations of one decoder layer, operation by operation, as transformers runs it.

RMSNorm in fp32, rotary embedding, fused attention, MLP; what the layer keeps for its backward adds up to
preflight/formulas/layers/layer_costs.py.
"""

from __future__ import annotations

from caching_allocator import SYNC, Event

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit

DEFAULT, GATHER, REDUCE = "default", "all_gather", "reduce_scatter"


class Tape:
    """Events in order; an allocation of zero bytes is none."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.streams: list[str] = []

    def take(self, num_bytes: int, stream: str = DEFAULT) -> int:
        number = len(self.streams)
        self.streams.append(stream if num_bytes > 0 else "")
        if num_bytes > 0:
            self.events.append((number, num_bytes, stream))
        return number

    def drop(self, *numbers: int) -> None:
        for number in numbers:
            if self.streams[number]:
                self.events.append((number, 0, self.streams[number]))

    def wait(self) -> None:
        self.events.append((SYNC, 0, DEFAULT))


class Saved:
    """What a layer keeps for its backward, in the order it is made."""

    def __init__(self) -> None:
        self.attention: list[int] = []
        self.mlp: list[int] = []


class Layers:
    """What the layers of one rank allocate; what their weights do is for the subclass."""

    def __init__(self, plan: LaunchPlan, model: ModelSpec) -> None:
        self.plan, self.model = plan, model
        self.tape = Tape()
        self.precision = precision_of(plan, model)
        self.tokens = num_tokens(plan)
        self.c = self.precision.bytes_of("compute")
        self.trains = plan.adapter is None
        self.layers = [u for u in model.layers if u.layer is not None for _ in range(u.count)]
        self.residual = max(
            layer_costs(plan, model, unit, self.precision).residual for unit in self.layers
        )

    def weight_gradients(self, units: list[ModelUnit]) -> None:
        raise NotImplementedError

    def pieces(self, unit: ModelUnit) -> tuple[list[int], list[int], int]:
        """Return bytes per token of attention's and the MLP's saved tensors, and their sum."""
        shape = unit.layer
        assert shape is not None
        costs = layer_costs(self.plan, self.model, unit, self.precision)
        c, h, q, kv = self.c, shape.hidden_size, shape.query_size, shape.kv_size
        width = self.width(unit)
        gated = self.model.facts.get("mlp", "gated") == "gated"
        attention = [4 * h, c * h, c * q, c * kv, c * kv, c * q]
        mlp = [4 * h, c * h] + [c * width] * (4 if gated else 2)
        if not self.trains:
            attention[1], mlp[1] = 0, 0
            mlp = mlp[:-1]
        rest = costs.saved - sum(attention) - sum(mlp)
        while rest > 0:
            part = min(rest, c * h)
            attention.append(part)
            rest -= part
        return attention, mlp, costs.selective

    def width(self, unit: ModelUnit) -> int:
        """Return the MLP's width, over all experts of a token."""
        shape = unit.layer
        assert shape is not None
        experts = shape.experts_per_token * shape.moe_intermediate_size
        return shape.intermediate_size + experts + shape.shared_expert_intermediate_size

    def layer_forward(self, unit: ModelUnit, share: str) -> tuple[int, Saved]:
        """Run a layer; return its output and what it keeps: all, the selective share, or nothing."""
        tape, tokens, c = self.tape, self.tokens, self.c
        shape = unit.layer
        assert shape is not None
        h = shape.hidden_size
        attention, mlp, selective = self.pieces(unit)
        saved = Saved()
        left = tokens * selective if share == "selective" else 0
        after_attention = -1
        for sizes, kept in ((attention, saved.attention), (mlp, saved.mlp)):
            square = tape.take(tokens * 4 * h)
            passing: list[int] = []
            for place, size in enumerate(sizes):
                number = tape.take(tokens * size)
                if place == 0:
                    tape.drop(square)
                    square = tape.take(tokens * 4 * h)  # normalised in fp32
                elif place == 1:
                    tape.drop(square)
                if sizes is attention and place in (2, 3):  # rotary: two products and their sum
                    rotated, turned = tape.take(tokens * size), tape.take(tokens * size)
                    tape.drop(number, turned)
                    number = rotated
                if share == "saved" or (left >= tokens * size and place >= 2):
                    kept.append(number)
                    left -= tokens * size
                    continue
                passing.append(number)
                if len(passing) > 3:
                    tape.drop(passing.pop(0))
            projected = tape.take(tokens * c * h)
            tape.drop(*passing)
            out = tape.take(tokens * self.residual)
            tape.drop(projected)
            if sizes is attention:
                after_attention = out
        tape.drop(after_attention)  # the next norm keeps its own fp32 copy
        return out, saved

    def layer_backward(self, unit: ModelUnit, saved: Saved, gradient: int) -> int:
        """Run a layer backward; return the gradient of its input. Frees what the layer kept as it goes."""
        tape, tokens, c = self.tape, self.tokens, self.c
        shape = unit.layer
        assert shape is not None
        h, width = shape.hidden_size, self.width(unit)
        product = tape.take(tokens * c * width)
        sides = [tape.take(tokens * c * width), tape.take(tokens * c * width)]
        tape.drop(product)
        norm, wide = saved.mlp[:2], saved.mlp[2:]
        tape.drop(*wide[1:])
        gate = tape.take(tokens * c * width)
        tape.drop(sides[0], *wide[:1])
        gradient = self._input_gradient(2, h, [sides[1], gate], gradient, norm)
        attended = tape.take(tokens * c * shape.query_size)
        accumulated = tape.take(tokens * 4 * shape.query_size)  # flash attention sums dq in fp32
        turned = [
            tape.take(tokens * c * size)
            for size in (shape.query_size, shape.kv_size, shape.kv_size)
        ]
        tape.drop(accumulated, attended, *saved.attention[2:])
        gradient = self._input_gradient(3, h, turned, gradient, saved.attention[:2])
        self.weight_gradients([unit])
        return gradient

    def _input_gradient(
        self, num_linears: int, h: int, sides: list[int], gradient: int, norm: list[int]
    ) -> int:
        """Add up the input gradients of linears that share an input, and go back through its norm."""
        tape, tokens, c = self.tape, self.tokens, self.c
        total = tape.take(tokens * c * h)
        for _ in range(num_linears - 1):
            part = tape.take(tokens * c * h)
            tape.drop(part)
        tape.drop(*sides)
        wide = [tape.take(tokens * 4 * h) for _ in range(3)]
        tape.drop(*wide[:2], total, *norm)
        out = tape.take(tokens * self.residual)
        tape.drop(wide[2], gradient)
        return out

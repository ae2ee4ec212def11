"""The most that torchao's float8 linear layers take beside the 16-bit layers that they stand for.

Float8Linear (torchao/float8/float8_linear.py, 0.7 to 0.18) makes what it multiplies in passing, and keeps 8-bit copies in
older releases alone (preflight/versions/torchao.py). It keeps the input of a frozen weight too, which nn.Linear does not,
and weights that are gathered for one product (ZeRO-3). tests/formulas/test_float8_linears.py holds the counts.
torch.compile fuses what is made in passing: the runs of torchtitan that torchao publishes with it are within 0.7 % of
those in bf16 (docs/source/workflows/training.md, 0.10 and 0.13).
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import EVERY_STEP, MemoryTerm, Moment
from preflight.model import EXPERTS, LINEAR, ModelSpec, ModelUnit
from preflight.values import dataclass
from preflight.versions.boundary import OLDEST
from preflight.versions.torchao import FLOAT8_LINEAR_KEEPS_NO_COPY

LARGEST, OUTPUTS, WEIGHTS = 12, 2, 1
"""Bytes of an element that are made in passing: of the largest of input, output and weight, which is cast by way of fp32,
and of output and weight in 8 bits beside it."""


@dataclass(frozen=True)
class Matrix:
    """Elements of one linear layer's input, output and weight."""

    inputs: int
    outputs: int
    weight: int

    @property
    def in_passing(self) -> int:
        """Bytes that forward or backward of the layer holds at once, beyond those of nn.Linear."""
        largest = max(self.inputs, self.outputs, self.weight)
        return LARGEST * largest + OUTPUTS * self.outputs + WEIGHTS * self.weight


def float8_at_most(plan: LaunchPlan, model: ModelSpec, has_head: bool) -> list[MemoryTerm]:
    """Return terms of what float8 layers keep and of the largest one as it runs; none where they are not bounded.

    Where decoder layers run again in the backward, one of them has its own at a time.
    """
    kinds = {tensor.kind for unit in model.layers for tensor in unit.tensors}
    if (
        not plan.seq_len
        or not model.layers
        or plan.base_quantization is not None
        or EXPERTS in kinds
    ):
        return []
    tokens, size = num_tokens(plan), precision_of(plan, model).bytes_of("compute")
    copies = 0 if FLOAT8_LINEAR_KEEPS_NO_COPY.holds_in(plan.versions, unknown=OLDEST) else 1
    of_input = copies + (size if plan.adapter is not None else 0)
    of_weight = copies + (size if plan.engine == "zero3" else 0)
    layers = [list(_matrices(unit, tokens)) for unit in model.layers]
    kept = [
        sum(of_input * one.inputs + of_weight * one.weight for one in layer) for layer in layers
    ]
    counts = [1 if plan.activation_checkpointing == "full" else unit.count for unit in model.layers]
    whole = sum(count * each for count, each in zip(counts, kept, strict=True))
    largest = max(one.in_passing for layer in layers for one in layer)
    terms = [
        MemoryTerm(
            "float8 linear layers, at most",
            whole + largest,
            frozenset(EVERY_STEP),
            f"{whole:,} + {largest:,}: {of_input} x inputs + {of_weight} x weights, and one layer in passing",
        )
    ]
    if has_head:
        head = Matrix(
            tokens * model.hidden_size,
            tokens * model.vocab_size,
            model.vocab_size * model.hidden_size,
        )
        more = of_input * head.inputs + of_weight * head.weight + max(0, head.in_passing - largest)
        moments = {Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD}
        terms.append(MemoryTerm("float8 head, at most", more, frozenset(moments), f"{more:,}"))
    return terms


def _matrices(unit: ModelUnit, tokens: int) -> Iterator[Matrix]:
    """Yield the matrices of a layer, each with an input of its own."""
    for tensor in unit.tensors:
        if tensor.kind == LINEAR and len(tensor.shape) == 2:
            outputs, inputs = tensor.shape
            yield Matrix(tokens * inputs, tokens * outputs, tensor.num_params)

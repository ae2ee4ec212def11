"""The most that quantization-aware training keeps: inputs and weights of linear layers as they would be once quantized.

torchao's FakeQuantizedLinear (quantization/qat/linear.py; 0.8 to 0.17, int8 activations with int4 weights, and int4
weights alone) keeps of every element of its input and of its weight at most two copies in the dtype of the training,
masks of those in range, and scales. Forward and backward of one make a few more of the larger of the two. Formats that go
through fp32 keep more (Int4WeightFakeQuantizeConfig, Float8FakeQuantizeConfig and MXFakeQuantizeConfig, 0.17).
Of a weight that is frozen beside an adapter, torchtune's QATLoRALinear keeps one copy, and masks of its input alone
(torchtune/modules/peft/lora.py:241-257, 0.6.1). tests/formulas/test_fake_quantized.py holds the counts.
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import EVERY_STEP, MemoryTerm
from preflight.model import LINEAR, ModelSpec, ModelUnit
from preflight.unpriced_names import FAKE_QUANTIZED, QUANTIZED_WIDELY

BESIDE_COPIES = {FAKE_QUANTIZED: 5, QUANTIZED_WIDELY: 24}
"""Bytes of an element that masks, scales and what is in fp32 take beside its two copies, by what is named."""
OF_FROZEN_WEIGHT, OF_ITS_INPUT = 1, 2
"""Bytes of an element beside the one copy of a frozen weight, and of its input's masks and scales."""
IN_PASSING = 16
"""Bytes of an element of the larger of input and weight, beyond what is kept, while a linear layer runs."""


def copies_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of FAKE_QUANTIZED."""
    return _at_most(plan, model, BESIDE_COPIES[FAKE_QUANTIZED])


def wide_copies_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of QUANTIZED_WIDELY."""
    return _at_most(plan, model, BESIDE_COPIES[QUANTIZED_WIDELY])


def _at_most(plan: LaunchPlan, model: ModelSpec, beside_copies: int) -> list[MemoryTerm]:
    """Return a term of what the linear layers keep between forward and backward, and of the largest one as it runs.

    Where decoder layers run again in the backward, one of them has its own at a time.
    """
    if not plan.seq_len or not model.layers:
        return []
    if plan.adapter is not None and plan.trainer == "torchtune":
        return [_beside_adapter(plan, model)]
    tokens = num_tokens(plan)
    head = [tokens * model.hidden_size, model.vocab_size * model.hidden_size]
    layers = [list(_elements(unit, tokens)) for unit in model.layers]
    counts = [unit.count for unit in model.layers]
    if plan.activation_checkpointing == "full":
        kept = max(map(sum, layers))
    else:
        kept = sum(count * sum(each) for count, each in zip(counts, layers, strict=True))
    kept += sum(head)
    largest = max(max(each) for each in (head, *layers))
    precision = precision_of(plan, model)
    size = 2 * max(map(precision.bytes_of, ("compute", "trainable"))) + beside_copies
    copies = MemoryTerm(
        "fake-quantized copies, at most",
        size * kept + IN_PASSING * largest,
        frozenset(EVERY_STEP),
        f"{kept:,} x {size} + {largest:,} x {IN_PASSING}",
    )
    return [copies]


def _beside_adapter(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm:
    """Return a term of the layers that an adapter is on, of every matrix of a layer at most, and of the head where it is."""
    assert plan.adapter is not None
    tokens, compute = num_tokens(plan), precision_of(plan, model).bytes_of("compute")
    counts = [unit.count for unit in model.layers]
    units = [list(_elements(unit, tokens)) for unit in model.layers]
    if "lm_head" in (plan.adapter.targets or ()):
        counts.append(1)
        units.append([tokens * model.hidden_size, model.vocab_size * model.hidden_size])
    each = [OF_ITS_INPUT * sum(u[::2]) + (compute + OF_FROZEN_WEIGHT) * sum(u[1::2]) for u in units]
    checkpointed = plan.activation_checkpointing == "full"
    kept = max(each) if checkpointed else sum(n * k for n, k in zip(counts, each, strict=True))
    largest, passing = max(map(max, units)), IN_PASSING + 2 * (compute - 2)
    return MemoryTerm(
        "fake-quantized copies of a frozen base, at most",
        kept + passing * largest,
        frozenset(EVERY_STEP),
        f"{kept:,} + {largest:,} x {passing}",
    )


def _elements(unit: ModelUnit, tokens: int) -> Iterator[int]:
    """Yield the elements of inputs and weights of a layer's matrices, each matrix with an input of its own."""
    for tensor in unit.tensors:
        if tensor.kind == LINEAR:
            yield tokens * tensor.shape[-1]
            yield tensor.num_params

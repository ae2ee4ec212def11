"""Optimizer states and packed weights: formula against what torch and bitsandbytes allocate on a CPU."""

from __future__ import annotations

import pytest
import torch

from preflight.launch import BaseQuantization, LaunchPlan
from preflight.model import ParameterTensor
from preflight.optimizers import state_bytes
from preflight.precision import Precision
from preflight.sharding import quantized_bytes

PRECISIONS = {
    dtype: Precision(dtype, dtype, dtype, dtype, dtype, None, False, dtype)
    for dtype in ("bf16", "fp32")
}
TORCH = {"bf16": torch.bfloat16, "fp32": torch.float32}


def state_of(optimizer: torch.optim.Optimizer) -> int:
    return sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.dim() > 0
    )


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("adamw_torch", lambda ps: torch.optim.AdamW(ps)),
        ("sgd", lambda ps: torch.optim.SGD(ps)),
        ("rmsprop", lambda ps: torch.optim.RMSprop(ps)),
    ],
)
def test_torch_states_have_the_weights_dtype(name, make, dtype):
    """Two copies for AdamW, one for RMSprop, none for SGD."""
    weight = torch.nn.Parameter(torch.randn(64, 128, dtype=TORCH[dtype]))
    weight.grad = torch.zeros_like(weight)
    optimizer = make([weight])
    optimizer.step()
    tensor = ParameterTensor("weight", (64, 128))
    plan = LaunchPlan(optimizer=name)

    assert state_bytes(plan, PRECISIONS[dtype], tensor, 64 * 128) == state_of(optimizer)


def test_adafactor_keeps_rows_and_columns():
    """Trainer's Adafactor: factored second moments in fp32 and no first moment."""
    from transformers.optimization import Adafactor

    weight = torch.nn.Parameter(torch.randn(64, 128, dtype=torch.bfloat16))
    weight.grad = torch.zeros_like(weight)
    optimizer = Adafactor([weight], scale_parameter=False, relative_step=False, lr=1e-3)
    optimizer.step()
    tensor = ParameterTensor("weight", (64, 128))
    ours = state_bytes(LaunchPlan(optimizer="adafactor"), PRECISIONS["bf16"], tensor, 64 * 128)

    assert ours == state_of(optimizer)


@pytest.mark.parametrize("shape", [(128, 256), (100, 64), (4096, 33)])
@pytest.mark.parametrize("double", [False, True])
def test_nf4_bytes_are_exact(shape, double):
    """Packed bits and every level of scales, as bitsandbytes really stores them."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(
        torch.randn(shape, dtype=torch.bfloat16), quant_type="nf4", compress_statistics=double
    )
    kept = [state.absmax, state.code]
    if double:
        kept += [state.state2.absmax, state.state2.code, state.offset]
    scales = sum(tensor.numel() * tensor.element_size() for tensor in kept)
    plan = LaunchPlan(base_quantization=BaseQuantization("nf4", double))

    assert quantized_bytes(plan, shape[0] * shape[1]) == packed.numel() + scales


def test_eight_bit_states_are_a_byte_and_a_scale_per_block():
    """Two states of one byte per element and one fp32 scale per 256; small tensors stay in fp32."""
    plan = LaunchPlan(optimizer="adamw_bnb_8bit")
    large, small = ParameterTensor("weight", (64, 128)), ParameterTensor("bias", (128,))

    assert state_bytes(plan, PRECISIONS["bf16"], large, 8192) == 2 * (8192 + 4 * 32)
    assert state_bytes(plan, PRECISIONS["bf16"], small, 128) == 8 * 128

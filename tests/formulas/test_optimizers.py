"""Optimizer states and packed weights: formula against what torch and bitsandbytes allocate on a CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from preflight.formulas.optimizers import paged_bytes, state_bytes
from preflight.formulas.precision import Precision
from preflight.formulas.sharding import quantized_bytes
from preflight.judge import estimate_memory
from preflight.launch import BaseQuantization, LaunchPlan
from preflight.model import ParameterTensor
from preflight.models import describe
from preflight.trace.eight_bit import bitsandbytes_optimizer, is_paged

PRECISIONS = {
    dtype: Precision(dtype, dtype, dtype, dtype, dtype, None, False, dtype)
    for dtype in ("bf16", "fp32")
}
MODEL = describe(
    {
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 2048,
    },
    "tiny",
    "test",
)
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


@pytest.mark.parametrize(
    "name", ["paged_adamw_8bit", "paged_adamw_32bit", "paged_lion_8bit", "adamw_bnb_8bit"]
)
@pytest.mark.parametrize("shape", [(512, 256), (256, 256), (1024,)], ids=str)
@pytest.mark.parametrize("kind", ["linear", "embedding"])
def test_paged_states_are_those_that_bitsandbytes_pages(name, shape, kind):
    """Its own code makes the states; only where their memory comes from is left out."""
    weight = torch.nn.Parameter(torch.empty(shape, device="meta"))
    weight.grad = torch.empty_like(weight)
    optimizer = bitsandbytes_optimizer(name, [weight], [weight] if kind == "embedding" else [])
    optimizer.check_overrides()
    optimizer.init_state(optimizer.param_groups[0], weight, 0, 0)
    made = [v for key, v in optimizer.state[weight].items() if key.startswith(("state", "absmax"))]
    paged = sum(v.numel() * v.element_size() for v in made if is_paged(v))
    ordinary = sum(v.numel() * v.element_size() for v in made if not is_paged(v))

    plan, tensor = LaunchPlan(optimizer=name), ParameterTensor("weight", shape, kind)
    elements = weight.numel()
    assert paged_bytes(plan, tensor, elements) == paged
    states = state_bytes(plan, PRECISIONS["fp32"], tensor, elements)
    assert states - paged_bytes(plan, tensor, elements) == ordinary


@pytest.mark.parametrize("engine", ["zero1", "zero2", "zero3"])
def test_with_16_bit_masters_no_gradient_is_cast_for_the_step(engine, plugins):
    """`flatten(...).to(dtype)` returns what it is given where the dtype is the same (stage3.py:2686)."""
    plan = LaunchPlan(
        engine=engine, world_size=4, shard_degree=4, mixed_precision="bf16", load_dtype="bf16",
        micro_batch_size=1, seq_len=64, trainer="transformers", optimizer="adamw_torch_fused",
    )  # fmt: skip
    narrow = replace(plan, master_dtype="bf16", optimizer_state_dtype="bf16")
    found = []
    for one in (plan, narrow):
        terms = estimate_memory(one, MODEL, None, plugins).terms
        step = [t for t in terms if "for the step" in t.name or "of a sub group" in t.name]
        found.append(sum(t.num_bytes for t in step) / -(-MODEL.num_params // 4))

    assert found == ([6, 2] if engine == "zero3" else [8, 4])


def test_only_trainer_keeps_32_bit_states_of_embeddings():
    table = ParameterTensor("weight", (1000, 64), "embedding")
    trainer = LaunchPlan(optimizer="adamw_8bit", trainer="trl")
    loop = LaunchPlan(optimizer="adamw_8bit", trainer="plain_loop")
    precision = PRECISIONS["bf16"]

    assert state_bytes(trainer, precision, table, 64_000) == 8 * 64_000
    assert state_bytes(loop, precision, table, 64_000) == 2 * (64_000 + 4 * 250)


@pytest.mark.parametrize("method", ["full", "full, autocast", "LoRA"])
def test_a_step_of_adafactor_takes_what_its_trace_shows(method, tmp_path):
    """The square of a gradient and that with an epsilon are there at once, beside the update of the tensor before."""
    from preflight.derive.costs.formula_table import compare
    from preflight.memory import Moment
    from preflight.plugins import load_plugins

    found = compare(
        "llama",
        method,
        True,
        load_plugins(str(tmp_path)),
        optimizer="adafactor",
        trainer="transformers",
    )
    (step,) = (c for c in found if c.moment is Moment.OPTIMIZER_STEP)

    assert step.formula_bytes == pytest.approx(step.traced_bytes, rel=0.002)


@pytest.mark.parametrize(
    ("optimizer", "elements", "made"),
    [
        ("adamw_torch_8bit", 64 * 128, 16_640),
        ("adamw_torch_8bit", 1000 * 64, 130_000),
        ("adamw_torch_8bit", 513 * 65, 133_380),
        ("adamw_torch_8bit", 128, 512),
        ("adamw_torch_4bit", 64 * 128, 8_704),
        ("adamw_torch_4bit", 1000 * 64, 68_000),
        ("adamw_torch_4bit", 513 * 65, 133_380),
        ("adamw_torch_4bit", 128, 512),
    ],
)
def test_torchao_packs_what_fills_its_blocks_and_leaves_the_rest_as_the_weight(
    optimizer, elements, made
):
    """`made`: bytes of AdamW8bit's and AdamW4bit's two buffers for a weight in bf16 (torchao 0.18.0, `_new_buffer`)."""
    tensor = ParameterTensor("weight", (elements,))

    assert (
        state_bytes(LaunchPlan(optimizer=optimizer), PRECISIONS["bf16"], tensor, elements) == made
    )

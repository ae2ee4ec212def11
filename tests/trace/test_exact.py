"""A few layers added up are the whole model to the byte, and tensors without data are the real ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_models import LORA, NF4, job

from preflight.trace.log import OPTIMIZER_STATES
from preflight.trace.run import trace

SHARDED = {"engine": "fsdp2", "shard_degree": 3, "trainable_dtype": "fp32", "mixed": True}
AUTOCAST = {"trainable_dtype": "fp32", "autocast": True, "mixed": True}

CASES = {
    "dense": ("llama", {}),
    "dense, checkpointed": ("llama", {"checkpointing": True}),
    "dense, outputs kept": ("llama", {"keeps_outputs": True, "optimizer": "sgd"}),
    "dense, outputs dropped behind backward": (
        "llama",
        {"keeps_outputs": "backward", "optimizer": "sgd", "micro_steps": 2},
    ),
    "dense, outputs dropped behind the step": (
        "llama",
        {"keeps_outputs": "step", "optimizer": "sgd", "micro_steps": 2},
    ),
    "dense, flash attention": ("llama", {"attention": "flash_attention_2"}),
    "dense, padded and accumulating under autocast": (
        "llama",
        {**AUTOCAST, "has_padding": True, "micro_steps": 2, "checkpointing": True},
    ),
    "dense, LoRA": ("llama", {"adapter": LORA, "trainable_dtype": "fp32"}),
    "dense, 4-bit": (
        "llama",
        {"adapter": LORA, "trainable_dtype": "bf16", "quantization": NF4, "seq_len": 1024},
    ),
    "dense, 4-bit, upcast and checkpointed": (
        "llama",
        {
            "adapter": LORA,
            "trainable_dtype": "fp32",
            "autocast": True,
            "mixed": True,
            "checkpointing": True,
            "quantization": {**NF4, "upcast": "all"},
        },
    ),
    "dense, every second layer checkpointed": (
        "llama_deep",
        {"checkpointing": True, "checkpointing_mode": "selective_every_2"},
    ),
    "dense, checkpointed but for attention, under autocast": (
        "llama",
        {**AUTOCAST, "checkpointing": True, "checkpointing_mode": "selective_op"},
    ),
    "dense, 8-bit optimizer": ("llama", {"optimizer": "adamw_bnb_8bit"}),
    "experts": ("qwen3_moe", {}),
    "experts, checkpointed under autocast": ("qwen3_moe", {**AUTOCAST, "checkpointing": True}),
    "sliding and full attention": ("gemma3", {}),
    "sliding and full attention, checkpointed": ("gemma3", {"checkpointing": True}),
    "sliding attention, experts": ("gpt_oss", {"attention": "eager"}),
    "cross attention, text alone": ("mllama", {"checkpointing": True}),
    "chunked and full attention, experts, a tower": ("llama4", {"checkpointing": True}),
    "linear and full attention": ("qwen3_next", {"checkpointing": True}),
    "dense, then experts": ("deepseek_v3", {"checkpointing": True}),
    "dropout and tied": ("gpt2", {"optimizer": "adamw_torch_fused"}),
    "FSDP2": ("llama", SHARDED),
    "FSDP2, checkpointed and accumulating": (
        "llama",
        {**SHARDED, "checkpointing": True, "micro_steps": 2},
    ),
    "FSDP2, kept gathered": (
        "qwen3_moe",
        {**SHARDED, "checkpointing": True, "reshard_after_forward": False},
    ),
    "FSDP2, LoRA": ("llama", {**SHARDED, "checkpointing": True, "adapter": LORA}),
}


def bytes_of(traced) -> list[tuple]:
    return [
        (a.part, a.entry_bytes, a.peak_bytes, a.exit_bytes, a.at_peak, a.at_exit)
        for a in traced.levels
    ]


@pytest.mark.parametrize("name", CASES)
def test_layers_added_up_are_the_whole_model_to_the_byte(name):
    """Entry, peak, exit and every category of every part, both steps."""
    model, more = CASES[name]
    shallow = job(model, **more)
    added_up, whole = trace(shallow), trace(replace(shallow, full_depth=True))

    assert len(added_up.depth.kept) < added_up.depth.num_layers
    assert _visible(bytes_of(added_up)) == _visible(bytes_of(whole))


def _visible(levels: list[tuple]) -> list[tuple]:
    """Drop what is zero bytes in a breakdown."""
    return [
        (*rest, _without_zeros(at_peak), _without_zeros(at_exit))
        for *rest, at_peak, at_exit in levels
    ]


def _without_zeros(level: dict) -> dict:
    return {key: num_bytes for key, num_bytes in level.items() if num_bytes}


@pytest.fixture
def one_thread():
    """Tiny products are slower on several threads, far slower where others compute too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("model", ["llama", "gemma3", "qwen3_moe"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_tensors_without_data_allocate_what_real_ones_do(model, checkpointing):
    """The same steps on this CPU with data, eager attention: nothing decided by a kernel."""
    whole = job(model, checkpointing=checkpointing, attention="eager", full_depth=True, seq_len=24)
    whole = replace(whole, config={**whole.config, "num_hidden_layers": 7, "layer_types": None})
    without_data, real = trace(whole), trace(whole, device="cpu")

    assert bytes_of(without_data) == bytes_of(real)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("optimizer", ["adamw_bnb_8bit", "lion_8bit", "rmsprop_bnb"])
def test_states_of_bitsandbytes_are_those_that_it_makes_of_real_tensors(optimizer):
    """Packed, in fp32 where a tensor is small or an embedding, with scales and code books."""
    whole = job("llama", optimizer=optimizer, attention="eager", full_depth=True, seq_len=24)
    without_data, real = trace(whole), trace(whole, device="cpu")

    assert states_at_the_end(without_data) == states_at_the_end(real) > 0


def states_at_the_end(traced) -> int:
    at_peak = traced.levels[-1].at_peak
    return sum(size for (category, _), size in at_peak.items() if category == OPTIMIZER_STATES)

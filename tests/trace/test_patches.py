"""Patches matter, and are gone when the trace is over."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from tiny_models import job

from preflight.trace import patches
from preflight.trace.log import LAYER_FORWARD
from preflight.trace.run import trace


def saved_by_a_layer(traced) -> int:
    level = next(
        level
        for level in traced.levels
        if level.part.name == LAYER_FORWARD and level.part.layer == 1
    )
    return level.exit_bytes - level.entry_bytes


def test_attention_without_the_patch_saves_scores_that_a_gpu_never_makes(monkeypatch):
    """A patch that silently stopped to work would leave these two equal."""
    with_patch = saved_by_a_layer(trace(job("llama")))
    monkeypatch.setattr(patches, "_flash_takes", lambda query, value: False)
    without = saved_by_a_layer(trace(job("llama")))

    assert without > 1.5 * with_patch


def test_torch_is_as_before_after_a_trace():
    before = (
        F.scaled_dot_product_attention, F.dropout, torch.autocast, torch.is_autocast_enabled,
        torch.UntypedStorage.resize_,
    )  # fmt: skip
    trace(job("llama", autocast=True, mixed=True))

    assert before == (
        F.scaled_dot_product_attention, F.dropout, torch.autocast, torch.is_autocast_enabled,
        torch.UntypedStorage.resize_,
    )  # fmt: skip


def test_dropout_keeps_a_mask_of_one_byte_per_element():
    """GPT-2 has two residual dropouts in a layer."""
    with_dropout = job("gpt2")
    without = replace(with_dropout, config={**with_dropout.config, "resid_pdrop": 0.0})
    elements = with_dropout.micro_batch_size * with_dropout.seq_len * 64

    assert saved_by_a_layer(trace(with_dropout)) - saved_by_a_layer(trace(without)) == 2 * elements


def test_as_many_key_heads_are_no_groups_whatever_is_asked():
    """DeepSeek's keys are wider than its values, and transformers 4.54 to 5.0 asked for groups of one."""
    query, key = (torch.empty(2, 4, 64, 48, dtype=torch.bfloat16, device="meta") for _ in "qk")
    value = torch.empty(2, 4, 64, 32, dtype=torch.bfloat16, device="meta")
    query.requires_grad_()
    saved: list[torch.Size] = []
    hooks = torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: saved.append(tensor.shape), lambda shape: shape
    )
    with patches.cuda_attention(lambda: None), hooks:
        F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)

    assert saved
    assert (64, 64) not in {shape[-2:] for shape in saved}

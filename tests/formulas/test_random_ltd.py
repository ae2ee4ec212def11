"""Layers that run on some of their tokens take no more than on all, and the rows around them that are bounded.

DeepSpeed's own wrapper and autograd functions run here; its kernels, which need a GPU, are gathered and scattered by
torch into the tensors that they allocate (deepspeed/ops/csrc/random_ltd/pt_binding.cpp, 0.19.8).
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from preflight.formulas.limits.some_tokens import INDICES

pytestmark = pytest.mark.libraries
ROWS, LENGTH, HIDDEN, LAYERS = 2, 128, 64, 4


def gathered(rows, places, batch_first):
    import torch

    wide = places.long().unsqueeze(-1).expand(-1, -1, rows.shape[-1])
    return torch.gather(rows, 1, wide)


def scattered(rows, part, places, batch_first):
    for row, some, where in zip(rows, part, places, strict=True):
        row[where.long()] = some
    return rows


def peak(reserved: int, monkeypatch) -> int:
    """Return the most that is alive in forward and backward of GPT-2's layers on so many of their tokens."""
    import torch
    from allocations import Allocations
    from deepspeed.ops.random_ltd import dropping_utils
    from deepspeed.runtime.data_pipeline.data_routing.basic_layer import RandomLayerTokenDrop
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    kernels = SimpleNamespace(
        token_sort_=lambda places, length: places.sort(-1).values,
        token_gather=gathered,
        token_scatter_=scattered,
    )
    monkeypatch.setattr(dropping_utils, "random_ltd_module", kernels)
    config = GPT2Config(n_embd=HIDDEN, n_head=4, attn_implementation="sdpa")
    state = {"max_value": LENGTH}
    scheduler = SimpleNamespace(
        state=state, random_ltd_layer_num=LAYERS, get_current_seq=lambda: reserved
    )
    settings = {
        "model_mask_name": None,
        "micro_batch_size": ROWS,
        "hidden_state_order": "batch_seq_dim",
        "model_type": "decoder",
    }
    layers = []
    for place in range(LAYERS):
        layer = RandomLayerTokenDrop(GPT2Block(config, layer_idx=place))
        layer.init_config(settings, scheduler, place)
        layers.append(layer)
    rows = torch.randn(ROWS, LENGTH, HIDDEN, requires_grad=True)
    with Allocations() as counted:
        counted.mark("step")
        hidden = rows
        for layer in layers:
            out = layer(hidden)
            hidden = out[0] if isinstance(out, tuple) else out
        hidden.sum().backward()
    return counted.peaks["step"]


def peak_of_mixture(chosen: int | None) -> int:
    """Return the most that is alive where every other layer runs on so many tokens, as mixture-of-depth 1.2.0 has it."""
    import torch
    from allocations import Allocations
    from torch import nn
    from transformers import GPT2Config
    from transformers.models.gpt2.modeling_gpt2 import GPT2Block

    config = GPT2Config(n_embd=HIDDEN, n_head=4, attn_implementation="sdpa")

    class OnSome(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block, self.router = block, nn.Linear(HIDDEN, 1)

        def forward(self, rows):
            weights = self.router(rows.float()).squeeze(-1)
            is_chosen = weights > weights.topk(chosen, dim=1).values[:, -1:]
            done = torch.zeros_like(rows)
            for index, row in enumerate(rows):
                some = row[is_chosen[index]][None]
                part = self.block(some) * weights[index][is_chosen[index]][:, None]
                done[index][is_chosen[index]] = part[0]
            return done + rows * (~is_chosen)[..., None].to(rows.dtype)

    layers = [GPT2Block(config, layer_idx=place) for place in range(LAYERS)]
    if chosen is not None:
        layers = [OnSome(block) if place % 2 else block for place, block in enumerate(layers)]
    hidden = torch.randn(ROWS, LENGTH, HIDDEN, requires_grad=True)
    with Allocations() as counted:
        counted.mark("step")
        for layer in layers:
            out = layer(hidden)
            hidden = out[0] if isinstance(out, tuple) else out
        hidden.sum().backward()
    return counted.peaks["step"]


def bound() -> int:
    return ROWS * LENGTH * ((2 * LAYERS + 4) * HIDDEN * 4 + INDICES * LAYERS)


def test_a_mixture_of_depths_is_within_what_is_bounded_and_beyond_the_model_without_it():
    on_all = peak_of_mixture(None)

    assert on_all < peak_of_mixture(LENGTH) <= on_all + bound()
    assert peak_of_mixture(LENGTH // 8) <= on_all + bound()


@pytest.mark.parametrize("reserved", [LENGTH // 4, LENGTH // 2, LENGTH - 1])
def test_a_layer_on_some_tokens_is_within_what_is_bounded(reserved, monkeypatch):
    on_all = peak(LENGTH, monkeypatch)

    assert peak(reserved, monkeypatch) <= on_all + bound()


def test_rows_around_a_layer_on_nearly_all_tokens_are_beyond_it(monkeypatch):
    assert peak(LENGTH - 1, monkeypatch) > peak(LENGTH, monkeypatch)

"""A mixture whose experts are linear layers that run one after the other, as the modeling files of 4.48 have it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Expert(nn.Module):
    """One gated MLP."""

    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(hidden, width, bias=False)
        self.w2 = nn.Linear(width, hidden, bias=False)
        self.w3 = nn.Linear(hidden, width, bias=False)

    def forward(self, rows: Any) -> Any:
        gated = nn.functional.silu(self.w1(rows)) * self.w3(rows)
        return self.w2(gated)


class LoopedMixture(nn.Module):
    """A router and its experts, as transformers before 5.0 put them together."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.num_experts, self.num_chosen = config.num_local_experts, config.num_experts_per_tok
        self.gate = nn.Linear(config.hidden_size, self.num_experts, bias=False)
        self.experts = nn.ModuleList(
            Expert(config.hidden_size, config.intermediate_size) for _ in range(self.num_experts)
        )

    def forward(self, hidden_states: Any) -> Any:
        tokens = hidden_states.view(-1, hidden_states.shape[-1])
        scores = nn.functional.softmax(self.gate(tokens), dim=1, dtype=torch.float)
        shares, chosen = torch.topk(scores, self.num_chosen, dim=-1)
        shares = shares / shares.sum(dim=-1, keepdim=True)
        shares = shares.to(tokens.dtype)
        total = torch.zeros_like(tokens)
        goes_to = nn.functional.one_hot(chosen, num_classes=self.num_experts).permute(2, 1, 0)
        for index, expert in enumerate(self.experts):
            place, row = torch.where(goes_to[index])
            rows = tokens[None, row].reshape(-1, tokens.shape[-1])
            result = expert(rows) * shares[row, place, None]
            total.index_add_(0, row, result.to(tokens.dtype))
        return total.reshape(hidden_states.shape)

"""A linear layer on what AutoModel returns keeps what transformers' own model with scores does, to less than a thousandth."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import logsigmoid
from transformers import AutoModel, LlamaConfig, LlamaForSequenceClassification

CONFIG = LlamaConfig(
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=4,
    vocab_size=512,
    pad_token_id=0,
    num_labels=1,
)


class Scores(nn.Module):
    """The module of a script's own: the shape of DeepSpeed-Chat's."""

    def __init__(self, base):
        super().__init__()
        self.inner = base
        self.head = nn.Linear(base.config.hidden_size, 1, bias=False)

    def forward(self, input_ids):
        rewards = self.head(self.inner(input_ids)[0]).squeeze(-1)
        half = len(input_ids) // 2
        pairs = zip(rewards[:half], rewards[half:], strict=True)
        return sum(-logsigmoid(chosen[3:] - rejected[3:]).mean() for chosen, rejected in pairs)


def saved_bytes(run):
    held = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        held[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = run()
    loss.backward()
    return sum(held.values())


@pytest.mark.parametrize("length", [16, 100])
def test_what_a_step_keeps_is_that_of_scores(length):
    rows = torch.randint(1, 512, (6, length))
    own, theirs = Scores(AutoModel.from_config(CONFIG)), LlamaForSequenceClassification(CONFIG)

    def scored():
        scores = theirs(rows).logits
        return -logsigmoid(scores[:3] - scores[3:]).mean()

    assert saved_bytes(lambda: own(rows)) == pytest.approx(saved_bytes(scored), rel=1e-3)

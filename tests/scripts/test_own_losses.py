"""The loss of a step is the model's own, a cross entropy of its logits, or one that no formula counts: then it is named."""

from __future__ import annotations

import ast

import pytest

from preflight.scripts.losses.own_losses import own_losses
from preflight.unpriced_names import NARROW_LOSS, OWN_LOSS

FILE = """
import torch.nn.functional as F
criterion = torch.nn.CrossEntropyLoss()

def plain(logits, labels):
    return F.cross_entropy(logits.float().view(-1, 9), labels)

def sharp(logits, labels):
    return -(logits.softmax(-1) * labels).sum()

for batch in loader:
{step}
    loss.backward()
"""


def found(*step):
    tree = ast.parse(FILE.format(step="\n".join(f"    {line}" for line in step)))
    loop = next(node for node in tree.body if isinstance(node, ast.For))
    return {name for name, _ in own_losses(loop.body, list(ast.walk(tree)))}


@pytest.mark.parametrize(
    "step",
    [
        ["loss = model(**batch).loss"],
        ["loss = model(**batch)[0]"],
        ["out = model(**batch)", "loss = out['loss'] / 4"],
        ["logits, loss = model(x, y)"],
        ["loss = model(x, labels=y)"],
        ["out = self.model(**batch)", "loss = out.loss", "shown = out.logits.argmax(-1)"],
        ["out = model(**batch)", "loss = out.loss", "print(out.logits.shape)"],
        ["out = model(**batch)", "with torch.no_grad():", "    p = out.logits.softmax(-1)", "loss = out.loss"],
        ["out = model(**batch)", "loss = F.cross_entropy(out.logits.float().view(-1, 9), y)"],
        ["loss = plain(model(**batch).logits, y)"],
        ["loss = plain(labels=y, logits=model(**batch).logits)"],
        ["out = model(**batch)", "kept = (out.loss,) + out[1:]", "loss = kept[0]"],
        ["out = model(**batch)", "out = CausalLMOutputWithPast(out.loss, out.logits)", "loss = out.loss"],
    ],
)  # fmt: skip
def test_what_transformers_counts_is_left_alone(step):
    assert found(*step) == set()


@pytest.mark.parametrize(
    "step",
    [
        ["loss = F.cross_entropy(model(**batch).logits, y)"],
        ["out = model(**batch)", "loss = criterion(out.logits[..., :-1, :], y)"],
        ["logits = model(**batch)[1]", "loss = nn.CrossEntropyLoss()(logits.view(-1, 9), y)"],
        ["logits = model(**batch).logits.contiguous()", "loss = F.cross_entropy(logits, y)"],
    ],
)
def test_a_cross_entropy_without_fp32_takes_less(step):
    assert found(*step) == {NARROW_LOSS}


@pytest.mark.parametrize(
    "step",
    [
        ["loss = sharp(model(**batch).logits, y)"],
        ["loss = elsewhere(model(**batch), y)"],
        ["logits = model(**batch).logits", "loss = logits.softmax(-1).mean()"],
        ["h = model.model(**batch).last_hidden_state", "loss = h.mean()"],
        ["out = model(**batch)", "loss = out.loss + (out.logits ** 2).mean()"],
        ["out = model(**batch)", "kept.append(out.logits)", "loss = out.loss"],
        # a copy in fp32 beside the one in fp32 that it is made of
        ["x = model(**batch).logits.float()", "loss = F.cross_entropy(x[:, 1:].contiguous(), y)"],
    ],
)
def test_anything_else_is_a_loss_of_its_own(step):
    assert found(*step) == {OWN_LOSS}

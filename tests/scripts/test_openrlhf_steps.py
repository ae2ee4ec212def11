"""OpenRLHF's losses take what its releases' steps allocate of logits, counted by torch's allocator on the CPU.

The steps are written here as its releases take them; flash-attn's kernel, which runs on no CPU, by what it saves and makes
(flash_attn/ops/triton/cross_entropy.py CrossEntropyLoss, 2.6.1 to 2.8.3: the logits it is given, and a gradient as large).
"""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from test_step_loss import HEAD, VOCAB, peaks

from preflight.launchers.openrlhf.losses import log_probability_bytes, policy_bytes, sft_bytes

KERNEL = """
class Kernel(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits):
        ctx.save_for_backward(logits)
        return torch.zeros(len(logits), dtype=logits.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return torch.empty_like(ctx.saved_tensors[0])


def by_kernel(logits, ids):
    return -Kernel.apply(logits.reshape(-1, logits.shape[-1])).view(ids.shape)[:, :-1]

def forward_of(model, ids):
    output = model(input_ids=ids)
    output.logits = output.logits.to(torch.float32)
    return output

"""
SHIFTED = """
def shifted(logits, labels):
    mine, labels = logits[..., :-1, :].contiguous(), labels[..., 1:].contiguous()
    return nn.CrossEntropyLoss()(mine.view(-1, mine.size(-1)), labels.view(-1))
"""
ENDS = """
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
"""
SFT = {
    "0.6.4": """
for batch in loader:
    ids = batch["ids"]
    output = forward_of(model, ids)
    loss = shifted(output.logits, ids)
""",
    "0.7.5": """
for batch in loader:
    ids = batch["ids"]
    output = forward_of(model, ids)
    loss = -by_kernel(output.logits, ids).mean()
""",
}
PAIRS = {
    "0.6.4": """
def scores(model, ids):
    output = forward_of(model, ids)
    return log_probs(output.logits, ids)
""",
    "0.7.5": """
def scores(model, ids):
    output = forward_of(model, ids)
    return by_kernel(output.logits, ids).sum(-1)
""",
}
DPO = """
for batch in loader:
    ids = batch["ids"]
    n = ids.size(0) // 2
    ours = scores(model, ids)
    with torch.no_grad():
        theirs = scores(ref_model, ids)
    loss = -F.logsigmoid(ours[:n] - ours[n:] - theirs[:n] + theirs[n:]).mean()
"""
CUT = """
def scores(model, ids):
    output = forward_of(model, ids)
    logits, labels = output.logits[:, :-1, :], ids[:, 1:]
    SCORED
"""
CHUNK = 1024
POLICY = {
    "0.5.6": CUT.replace(
        "SCORED",
        "return logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1), output",
    ),
    "0.5.9": CUT.replace(
        "SCORED",
        """picked = torch.gather(logits, dim=-1, index=labels.unsqueeze(-1)).squeeze(-1)
    return picked - torch.stack([torch.logsumexp(row, dim=-1) for row in logits]), output""",
    ),
    "0.6.4": CUT.replace(
        "SCORED",
        "return -Kernel.apply(logits.reshape(-1, logits.shape[-1])).view(labels.shape), output",
    ),
    "0.7.5": """
def scores(model, ids):
    output = forward_of(model, ids)
    return by_kernel(output.logits, ids), output
""",
}
WITHOUT_FLASH = f"""
def chunked(logits):
    values = torch.zeros(len(logits), dtype=logits.dtype)
    for at in range(0, len(logits), {CHUNK}):
        values[at : at + {CHUNK}] = torch.logsumexp(logits[at : at + {CHUNK}], dim=-1)
    return values

def scores(model, ids):
    output = forward_of(model, ids)
    logits, labels = output.logits, torch.roll(ids, -1, 1)
    picked = torch.gather(logits, dim=-1, index=labels.unsqueeze(-1)).squeeze(-1)
    found = picked - chunked(logits.reshape(-1, logits.shape[-1])).view(labels.shape)
    return found[:, :-1], output
"""
UPDATE = """
def training_step(model, ids):
    ours, output = scores(model, ids)
    return (ours - ours.detach()).exp().mean(), output

for batch in loader:
    ids = batch["ids"]
    loss, output = training_step(model, ids)
"""
ALONE = """
def forward(model, ids):
    with torch.no_grad():
        return scores(model, ids)[0]

for batch in loader:
    found = forward(model, batch["ids"])
    loss = torch.zeros((), requires_grad=True) * 1
"""


def counted(step: str, path: Any) -> dict[str, float]:
    gc.collect()  # what another step held
    return peaks(KERNEL + SHIFTED + step + ENDS, torch.float32, path / "trace.json")


@pytest.mark.parametrize("release", SFT)
def test_a_step_of_its_sft_takes_what_torch_allocates(release, tmp_path):
    taken, found = sft_bytes(release, True), counted(SFT[release], tmp_path)

    assert taken.forward == pytest.approx(found["forward"], rel=0.06)
    assert taken.backward == pytest.approx(found["backward"], rel=0.06)


@pytest.mark.parametrize("release", PAIRS)
def test_a_step_of_its_dpo_takes_what_torch_allocates(release, tmp_path):
    taken, found = log_probability_bytes(release), counted(PAIRS[release] + DPO, tmp_path)

    assert max(taken.forward, taken.after) == pytest.approx(found["forward"], rel=0.06)
    assert taken.backward == pytest.approx(found["backward"], rel=0.06)


@pytest.mark.parametrize("release", [*POLICY, "without flash-attn"])
def test_an_update_of_its_actor_takes_no_more_than_is_counted(release, tmp_path):
    has_flash = release in POLICY
    step = POLICY.get(release, WITHOUT_FLASH)
    taken = policy_bytes(release if has_flash else "0.7.5", has_flash)
    update, alone = counted(step + UPDATE, tmp_path), counted(step + ALONE, tmp_path)

    # before 0.7 one law holds the larger of rows one by one and of a kernel that cut logits are copied for
    least = 0.7 if release == "0.5.9" else 0.94
    assert least * taken.forward <= update["forward"] <= 1.01 * taken.forward
    assert 0.94 * taken.backward <= update["backward"] <= 1.01 * taken.backward
    assert least * taken.evaluation <= alone["forward"] <= 1.01 * taken.evaluation


def test_one_row_alone_is_cut_without_a_copy():
    logits = torch.zeros(1, 8, VOCAB)[..., :-1, :]

    assert HEAD and logits.contiguous().data_ptr() == logits.data_ptr()
    assert sft_bytes("0.6.4", False).forward == sft_bytes("0.6.4", True).forward - 4

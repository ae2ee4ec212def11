"""verl's SFT step takes what its logits and a copy of them allocate, counted by torch's allocator on the CPU.

The step is written here as verl takes it (trainer/fsdp_sft_trainer.py _compute_loss_and_backward, 0.2.0 to 0.6.1); autocast
casts for cross entropy on a GPU alone, so that the step casts itself.
"""

from __future__ import annotations

import gc

import pytest
import torch
from test_step_loss import peaks

from preflight.formulas.user_loop import keeps_outputs, loss_bytes
from preflight.launch import LaunchPlan

STEP = """
def step(model, ids, cuts):
    output = model(input_ids=ids)
    logits = output.logits
    shifted = logits[..., :-1, :].contiguous() if cuts else logits
    shifted = shifted.view(-1, shifted.size(-1))
    labels = ids[:, 1:].contiguous().view(-1) if cuts else ids.view(-1)
    loss = nn.CrossEntropyLoss(reduction="none")(shifted.float(), labels)
    loss = loss.mean()
    loss.backward()
    return loss.item()

for batch in loader:
    step(model, batch["ids"], CUTS)
    optimizer.step()
    optimizer.zero_grad()
"""


def plan_of(rows: int) -> LaunchPlan:
    return LaunchPlan(
        objective="sft", launcher="verl", trainer="plain_loop", engine="fsdp2", mixed_precision="bf16",
        micro_batch_size=rows, seq_len=32, sequence_kind="padded", keeps_outputs="backward",
        versions={"transformers": "4.51.3", "torch": "2.6.0"},
    )  # fmt: skip


@pytest.mark.parametrize(("rows", "cuts"), [(4, True), (1, False)])
def test_several_rows_are_cut_with_a_copy_that_lives_as_long_as_the_logits(rows, cuts, tmp_path):
    gc.collect()  # what another step held
    counted = peaks(STEP.replace("CUTS", str(cuts)), torch.float32, tmp_path / "trace.json")
    plan = plan_of(rows)
    taken = loss_bytes(plan, 2)

    assert keeps_outputs(plan) == "backward"
    assert taken.forward == pytest.approx(counted["forward"], rel=0.06)
    assert taken.backward + taken.outputs == pytest.approx(counted["backward"], rel=0.06)

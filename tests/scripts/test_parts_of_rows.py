"""A step that takes a gradient of some rows at a time holds less than its loader's batch says, and is not refused for it."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.scripts.uncounted.parts_of_rows import IN_PARTS
from preflight.verdict import Answer

SCRIPT = """\
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

tokenizer(rows, truncation=True, max_length=4096)
loader = DataLoader(rows, batch_size=64, shuffle=True)
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16").cuda()
optimizer = torch.optim.AdamW(model.parameters())
for epoch in range(3):
    for batch in loader:
        {step}
        optimizer.step()
        optimizer.zero_grad()
"""
INNER = "\n            model(input_ids=part, labels=part).loss.backward()"
PARTS = {
    "chunks": "for part in batch['input_ids'].chunk(32):" + INNER,
    "split": "for part in torch.split(batch['input_ids'], 2):" + INNER,
    "slices": "ids = batch['input_ids']\n        for i in range(0, len(ids), 2):\n            part = ids[i : i + 2]"
    + INNER,
    "rows": "for i in range(32):\n            part = batch['input_ids'][i * 2 : (i + 1) * 2, :]" + INNER,
    "entries": "for i in range(0, 64, 2):\n            model(**{k: v[i : i + 2] for k, v in batch.items()}).loss.backward()",
    "a function": "for part in split_into(batch, 2):" + INNER,
}  # fmt: skip
WHOLE = {
    "no loop": "model(**batch).loss.backward()",
    "again": "for turn in range(4):\n            model(**batch).loss.backward()",
    "tokens": "for i in range(2):\n            model(input_ids=batch['input_ids'][:, : i + 9]).loss.backward()",
    "other rows": "for part in others.chunk(32):\n            log(part)\n        model(**batch).loss.backward()",
    "one gradient": "for part in batch['input_ids'].chunk(32):\n            losses.append(model(part, labels=part).loss)\n"
    "        sum(losses).backward()",
}  # fmt: skip


@pytest.fixture
def checked(tmp_path):
    def check(step: str):
        (tmp_path / "train.py").write_text(SCRIPT.format(step=step))
        command = LaunchCommand(("python", "train.py"), {}, str(tmp_path))
        return check_launch(command, load_plugins(), Request("h100-sxm-80")).verdict

    return check


@pytest.mark.parametrize("step", PARTS.values(), ids=PARTS)
def test_rows_that_a_step_takes_in_parts_refuse_nothing(checked, step):
    found = checked(step)
    assert found.answer is Answer.UNKNOWN
    assert IN_PARTS in found.unpriced


@pytest.mark.parametrize("step", WHOLE.values(), ids=WHOLE)
def test_a_batch_that_is_taken_whole_is(checked, step):
    assert IN_PARTS not in checked(step).unpriced


def test_the_whole_batch_does_not_fit(checked):
    assert checked(WHOLE["no loop"]).answer is Answer.DOES_NOT_FIT

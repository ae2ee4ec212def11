"""Loops over several loaders, loaders of a Trainer's subclass: the most rows that a step is given count."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

LOOP = """\
import argparse
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("--per_device_train_batch_size", type=int, default=2)
args = parser.parse_args()
rows_at_once = args.per_device_train_batch_size
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B", dtype=torch.bfloat16).cuda()
adam = torch.optim.AdamW(model.parameters(), lr=1e-5)


def step(batch):
    loss = model(**batch).loss
    loss.backward()
    adam.step()
    adam.zero_grad()


LOADERS
model.train()
STEPS
"""
STEP = "    loss = model(**batch).loss\n    loss.backward()\n    adam.step()\n"
WIDE = "wide = DataLoader(others, batch_size=rows_at_once * 4)"
FIRST = "first = DataLoader(rows, batch_size=rows_at_once)"
LOADERS = {
    "in turn": (f"{FIRST}\n{WIDE}", f"for batch in first:\n{STEP}for batch in wide:\n{STEP}", 8),
    "shuffled": (
        f"{FIRST[:-1]}, shuffle=True)\n{WIDE}",
        f"for batch in first:\n{STEP}for i, batch in enumerate(wide):\n{STEP}",
        8,
    ),
    "by a function": (
        f"{FIRST}\n{WIDE}\n\n\ndef run(loader):\n    for batch in loader:\n    {STEP.replace(chr(10), chr(10) + '    ')}",
        "run(first)\nrun(wide)",
        8,
    ),
    "the other is looked at": (
        f"{FIRST}\n{WIDE}",
        f"for batch in first:\n{STEP}with torch.no_grad():\n    for batch in wide:\n        model(**batch)",
        2,
    ),
    "one is reckoned": (
        "wide = DataLoader(rows, batch_size=rows_at_once * 4)",
        f"for batch in wide:\n{STEP}",
        8,
    ),
    "one is not known": (
        f"{FIRST}\nwide = DataLoader(others, batch_size=len(names))",
        f"for batch in first:\n{STEP}for batch in wide:\n{STEP}",
        None,
    ),
}


@pytest.mark.parametrize(("loaders", "steps", "rows"), LOADERS.values(), ids=LOADERS)
def test_the_widest_loader_that_a_step_goes_over_counts(tmp_path, loaders, steps, rows):
    """The first one's rows counted, or those of the flag, and the launch fitted."""
    text = LOOP.replace("LOADERS", loaders).replace("STEPS", steps)
    plan = plan_of(tmp_path, "python train.py --per_device_train_batch_size 2", {"train.py": text})

    assert plan.micro_batch_size == rows


TRAINER = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


class Own(Trainer):
    def get_train_dataloader(self):
        rows = ROWS
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=rows)


model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B")
Own(model, TrainingArguments("out", per_device_train_batch_size=2), train_dataset=rows).train()
"""


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("self.args.per_device_train_batch_size", 2),
        ("self._train_batch_size", 2),
        ("self.args.per_device_train_batch_size * 4", None),
        ("4 * self.args.train_batch_size", None),
        ("16", None),
    ],
)
def test_a_loader_that_reckons_with_the_rows_takes_others(tmp_path, rows, told):
    plan = plan_of(tmp_path, "python train.py", {"train.py": TRAINER.replace("ROWS", rows)})

    assert plan.micro_batch_size == told

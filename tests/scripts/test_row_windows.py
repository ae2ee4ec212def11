"""Rows that a script's own dataset cuts out of all its tokens are as long as its windows."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("gpt2")

class Rows(Dataset):
    def __init__(self, tokens, width=512, count=8):
        self.tokens, self.width, self.count = tokens, width, count
        {begins}

    def __getitem__(self, i):
        {gives}

def rows_of(path):
    return Rows(np.memmap(path), {width})

model = AutoModelForCausalLM.from_pretrained("gpt2", torch_dtype=torch.bfloat16)
args = TrainingArguments("out", per_device_train_batch_size=2, bf16=True)
{trains}
"""
TRAINS = "Trainer(model=model, args=args, train_dataset=rows_of('tokens.bin')).train()"
TWICE = "ids = self.tokens[i * self.width : (i + 1) * self.width]\n        "


def length(tmp_path, gives, begins="pass", width="256", trains=TRAINS):
    text = SCRIPT.format(gives=gives, begins=begins, width=width, trains=trains)
    return plan_of(tmp_path, "torchrun --nproc_per_node 2 train.py", {"train.py": text}).seq_len


@pytest.mark.parametrize(
    ("gives", "wanted"),
    [
        (f"{TWICE}return {{'input_ids': ids, 'labels': ids}}", 256),
        ("return {'input_ids': self.tokens[i : i + self.width]}", 256),
        ("return {'input_ids': self.tokens[i * self.width : i * self.width + self.width]}", 256),
        ("return {'input_ids': self.tokens[i : i + self.width + 1]}", 257),
        ("x = self.tokens[i : i + self.width]\n        y = self.tokens[i + 1 : i + 1 + self.width]\n        return {'input_ids': x, 'labels': y}", 256),
        ("return {'input_ids': self.tokens[i : i + self.unheard]}", None),
        ("return {'input_ids': self.tokens[i : i + 128], 'labels': self.tokens[i : i + 256]}", None),
        (f"{TWICE}return {{'input_ids': torch.cat([ids, ids])}}", None),
        ("return {'input_ids': self.tokens[i]}", None),
        ("part = self.tokens[i : i + self.width]\n        return {'input_ids': [row['input_ids'] for row in part]}", None),
        ("return {'input_ids': [row['input_ids'] for row in self.tokens[i : i + self.width]]}", None),
        ("return {'input_ids': torch.stack(self.tokens[i : i + self.width])}", None),
        ("return collate(self.tokens[i : i + self.width], 'input_ids')", None),
        ("return {'input_ids': list(map(ids_of, self.tokens[i : i + self.width]))}", None),
        ("part = self.tokens[i : i + self.width]\n        return {'input_ids': tokenizer(part)['input_ids']}", None),
        ("ids = torch.from_numpy(self.tokens[i : i + self.width].astype(np.int64))\n        return {'input_ids': ids[:-1], 'labels': ids[1:]}", 256),
        ("ids = self.tokens[i : i + self.width]\n        assert len(ids) == self.width\n        return dict(input_ids=ids, labels=ids.clone())", 256),
        ("batch = 8\n        return {'input_ids': self.tokens[i : i + batch]}", None),
        ("return {'input_ids': self.tokens[i : i + 8]}", None),
    ],
)  # fmt: skip
def test_a_window_is_a_row(gives, wanted, tmp_path):
    assert length(tmp_path, gives) == wanted


@pytest.mark.parametrize(
    "begins",
    [
        "self.rows = [tokens[i : i + width] for i in range(0, len(tokens), width)]",
        "self.rows = []\n        held = {'input_ids': [], 'labels': []}\n        for row in tokens:\n            held = {k: v + row[k] for k, v in held.items()}\n            while len(held['input_ids']) > self.width:\n                self.rows.append({k: v[: self.width] for k, v in held.items()})\n                held = {k: v[self.width :] for k, v in held.items()}",
    ],
)
def test_so_is_one_that_is_cut_beforehand(begins, tmp_path):
    assert length(tmp_path, "return {'input_ids': self.rows[i]}", begins) == 256


def test_a_width_that_nobody_gives_is_the_default(tmp_path):
    assert length(tmp_path, f"{TWICE}return {{'input_ids': ids}}", width="") == 512


@pytest.mark.parametrize(
    ("trains", "wanted"),
    [
        ("loader = DataLoader(rows_of('tokens.bin'), batch_size=2)\nTrainer(model, args).train()", 256),
        ("DataLoader(rows_of('tokens.bin'), batch_size=2)\nDataLoader(Rows(more, 300), batch_size=2)", None),
        ("DataLoader(rows_of('tokens.bin'), batch_size=2)\nDataLoader(load(more), batch_size=2)", None),
        ("DataLoader(rows_of('tokens.bin'), batch_size=2)\nval = load(more)\nDataLoader(val, batch_size=2)", 256),
        ("rows = load(more)\nrows = Rows(rows, 300)\nTrainer(model, args, train_dataset=rows).train()", 300),
    ],
)  # fmt: skip
def test_all_that_is_trained_on_has_rows_of_one_length(trains, wanted, tmp_path):
    trains = trains if "Trainer" in trains else f"{trains}\nTrainer(model, args).train()"

    assert length(tmp_path, f"{TWICE}return {{'input_ids': ids}}", trains=trains) == wanted

"""Rows that a loop makes itself are as many and as long as it makes them; a copy of a model beside its name is that model."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

LOOP = """\
import os
import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

COUNT, WIDTH = 3, int(os.environ.get("WIDTH", 640))
tokenizer = AutoTokenizer.from_pretrained("gpt2")
model = AutoModelForCausalLM.from_pretrained({model}).cuda()
optimizer = torch.optim.AdamW(model.parameters())

{before}

def step():
    {given}
    loss.backward()
    optimizer.step()

for _ in range(10):
    step()
"""
RANDOM = "ids = torch.randint(0, 50000, (COUNT, WIDTH)).cuda()"
BATCH = "batch = {'input_ids': ids, 'labels': ids}"
TRAINS = "loss = model(**batch).loss"


def plan(tmp_path, before, given=TRAINS, model="'gpt2'", env=None):
    text = LOOP.format(before=before, given=given, model=model)
    return plan_of(tmp_path, "python train.py", {"train.py": text}, env)


@pytest.mark.parametrize(
    ("before", "given"),
    [
        (f"{RANDOM}\n{BATCH}", TRAINS),
        (RANDOM, "loss = model(ids, labels=ids).loss"),
        (RANDOM, "outputs = model(ids, labels=ids)\n    loss = scaler.scale(outputs.loss / 4)"),
        (RANDOM, "loss = model(input_ids=ids.clone(), labels=ids)[0]"),
        ("def rows(at):\n    ids = torch.ones(COUNT, WIDTH, dtype=torch.long)\n    return {'input_ids': ids, 'labels': ids}", "batch = rows(0)\n    loss = model(**batch).loss"),
        ("shape = (COUNT, WIDTH)\nids = torch.full(shape, 7)\n" + BATCH, TRAINS),
        ("ids = np.random.randint(1, 9, size=[COUNT, WIDTH])\n" + BATCH, TRAINS),
    ],
)  # fmt: skip
def test_rows_of_one_shape_are_read(tmp_path, before, given):
    found = plan(tmp_path, before, given)
    other = plan(tmp_path, before, given, env={"WIDTH": "96"})

    assert (found.micro_batch_size, found.seq_len, other.seq_len) == (3, 640, 96)


@pytest.mark.parametrize(
    ("before", "given"),
    [
        (f"{RANDOM}\n{BATCH}", "loss = model(**next(rows)).loss"),
        (f"{RANDOM}\n{BATCH}\nmodel(**batch)", "loss = model(**tokens_of('a.bin')).loss"),
        (f"{RANDOM}\n{BATCH}", "model(**batch)\n    loss = model(ids[:, 5:], labels=ids).loss"),
        (f"{RANDOM}\nids = more(ids)\n{BATCH}", TRAINS),
        (f"{RANDOM}\n{BATCH}", "show(**batch)\n    loss = model(rows_of('a.bin')).loss"),
        (f"ids = torch.randint(0, 9, (COUNT, len(tokenizer)))\n{BATCH}", TRAINS),
        (f"ids = torch.randint(0, 9, (WIDTH,))\n{BATCH}", TRAINS),
        ("ids = ids.cuda()\n" + BATCH, TRAINS),
        (f"{RANDOM}\n{BATCH}\nrows = torch.utils.data.DataLoader(read())", TRAINS),
        (f"{RANDOM}\n{BATCH}\ndef other(x, y):\n    model(x, y).backward()\nother(1, 2)", TRAINS),
    ],
)  # fmt: skip
def test_rows_of_another_shape_or_source_are_not(tmp_path, before, given):
    assert plan(tmp_path, before, given).seq_len is None


def test_two_shapes_are_open(tmp_path):
    longer = "loss = model(torch.ones(COUNT, 900), labels=ids).loss"
    found = plan(tmp_path, f"{RANDOM}\n{BATCH}", f"{TRAINS}\n    {longer}".replace("**batch", "ids, labels=ids"))  # fmt: skip

    assert (found.micro_batch_size, found.seq_len) == (3, None) and "seq_len" not in opens(found)


@pytest.mark.parametrize(
    ("text", "rows"), [("'one text'", 1), ("f'text {WIDTH}'", 1), ("texts_of('a.txt')", None)]
)
def test_a_text_is_one_row(tmp_path, text, rows):
    made = f"batch = tokenizer({text}, truncation=True, max_length=WIDTH, return_tensors='pt')"
    found = plan(tmp_path, f"{made}.to('cuda')", "loss = model(**batch, labels=batch).loss")

    assert (found.micro_batch_size, found.seq_len) == (rows, 640)


@pytest.mark.parametrize(
    ("local", "is_copy"),
    [
        ("os.path.join(os.environ['STAGE'], name)", True),
        ("f'{stage()}/{name}'", True),
        ("Path(stage()) / name", True),
        ("os.path.join(stage(), 'mine')", False),
        ("f'{stage()}-{name}'", False),
        ("stage()", False),
    ],
)
def test_a_copy_beside_a_name_is_what_has_the_name(tmp_path, local, is_copy):
    pick = f"def pick(name):\n    local = {local}\n    return local if os.path.isdir(local) else name\n"
    text = LOOP.format(before="", given=TRAINS, model="pick('gpt2-xl')").replace(
        "COUNT,", f"{pick}COUNT,"
    )
    found = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert found.model == ("gpt2-xl" if is_copy else None)


def test_what_no_disk_is_asked_for_is_open(tmp_path):
    pick = "os.path.join('a', 'gpt2-xl') if ask() else 'gpt2-xl'"

    assert plan(tmp_path, "", model=pick).model is None

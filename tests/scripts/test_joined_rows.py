"""A row is as long as what a script's own code makes of its tokens: joined, filled up, cut again."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
import itertools
import numpy
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
texts = load_dataset("texts")["train"]

def cut(text, length=1024):
    return tokenizer(text, truncation=True, max_length=1024)

{body}

Trainer(model=model, args=TrainingArguments(output_dir="out", bf16=True), train_dataset=rows).train()
"""
MAPPED = "def encode(row):\n{inside}\nrows = texts.map(encode, batched=True)"
CUT = "tokenizer(row['{}'], truncation=True, max_length=1024).input_ids"
ASKED, ANSWERED = CUT.format("asked"), CUT.format("answered")
WHOLE = "tokenizer(row['asked']).input_ids"
GROUPED = "    ids = {joined}\n    return {{'input_ids': [ids[i : i + 4096] for i in range(0, len(ids), 4096)]}}"  # fmt: skip
LENGTHS = {
    "two parts": (f"    return {{'input_ids': {ASKED} + {ANSWERED}}}", 2048),
    "two names": (
        f"    one, other = {ASKED}, {ANSWERED}\n    return {{'input_ids': [*one, *other, 2]}}",
        2048,
    ),
    "tensors": (f"    return dict(input_ids=torch.cat([{ASKED}[0], {ANSWERED}[0]]))", 2048),
    "a helper": (
        "    return {'input_ids': cut(row['asked'])['input_ids'] + cut(row['answered'])['input_ids']}",
        2048,
    ),
    "a column": (
        "    one, other = cut(row['asked']), cut(row['answered'])\n    one['input_ids'] += other['input_ids']\n    return one",
        2048,
    ),
    "a mark": (f"    return {{'input_ids': {ASKED} + [tokenizer.eos_token_id]}}", 1024),
    "a mark of text": (
        f"    return {{'input_ids': tokenizer('user').input_ids + {ASKED}}}",
        1024,
    ),
    "labels alone": (
        "    one, other = cut(row['asked'] + row['answered']), cut(row['asked'])\n"
        "    one['labels'] = [-100] * len(other['input_ids']) + one['input_ids'][len(other['input_ids']) :]\n    return one",
        1024,
    ),
    "turns": (
        f"    ids = []\n    for turn in row['turns']:\n        ids += {ASKED}\n    return {{'input_ids': ids}}",
        None,
    ),
    "turns in a list": (
        f"    turns = [{ASKED} for turn in row['turns']]\n    return {{'input_ids': sum(turns, [])}}",
        None,
    ),
    "turns that are cut": (
        f"    ids = []\n    for turn in row['turns']:\n        ids.extend({WHOLE})\n    return {{'input_ids': ids[:640]}}",
        640,
    ),
    "two parts each turn": (
        f"    made = []\n    for turn in row['turns']:\n        ids = []\n        ids += {ASKED}\n        ids += {ANSWERED}\n"
        "        made.append(ids)\n    return {'input_ids': made}",
        2048,
    ),
    "cut where too long": (
        f"    ids = {WHOLE} + {WHOLE}\n    if len(ids) > 640:\n        ids = ids[:640]\n    return {{'input_ids': ids}}",
        640,
    ),
    "the last ones": (f"    return {{'input_ids': ({WHOLE} + {WHOLE})[-640:]}}", 640),
    "room for marks": (
        f"    ids = {WHOLE}\n    ids = [1] + ids[:638] + [2]\n    return {{'input_ids': ids}}",
        638,
    ),
    "filled up": (
        f"    ids = {ASKED}\n    ids = ids + [0] * (2048 - len(ids))\n    return {{'input_ids': ids}}",
        2048,
    ),
    "filled up to the cut": (
        f"    ids = {ASKED}\n    ids += [0] * (1024 - len(ids))\n    return {{'input_ids': ids}}",
        1024,
    ),
    "times": (f"    return {{'input_ids': {ASKED} * 4}}", 4096),
    "in groups": (GROUPED.format(joined=f"sum({ASKED}, [])"), 4096),
    "in groups by chain": (GROUPED.format(joined=f"list(itertools.chain(*{ASKED}))"), 4096),
    "in groups by a loop": (GROUPED.format(joined=f"[t for ids in {ASKED} for t in ids]"), 4096),
    "joined and not grouped": (
        f"    return {{'input_ids': list(itertools.chain.from_iterable({ASKED}))}}",
        None,
    ),
    "what is told at the run": (f"    return {{'input_ids': {WHOLE}[: row['room']]}}", None),
    "two parts that are cut at what the run tells": (
        f"    return {{'input_ids': ({ASKED} + {ANSWERED})[: row['room']]}}",
        2048,
    ),
    "two parts, cut in one case": (
        f"    ids = {ASKED} + {ANSWERED}\n    if row['short']:\n        ids = ids[:64]\n    return {{'input_ids': ids}}",
        2048,
    ),
    "filled up behind": (
        f"    ids = {ASKED}\n    ids += [0] * (2048 - len(ids))\n    return {{'input_ids': ids}}",
        2048,
    ),
    "rows in a list": (
        f"    made = []\n    for turn in row['turns']:\n        made += [{ASKED}]\n    return {{'input_ids': made}}",
        1024,
    ),
    "rows in another list": (
        f"    made = []\n    for turn in row['turns']:\n        made = made + [{ASKED}]\n    return {{'input_ids': made}}",
        1024,
    ),
    "of outside": (f"    return {{'input_ids': before + {ASKED}}}", 2048),
    "behind itself": (
        f"    ids = {ASKED}\n    ids = ids + {ANSWERED}\n    return {{'input_ids': ids}}",
        2048,
    ),
    "behind itself, in one case": (
        f"    ids = {ASKED}\n    if row['more']:\n        ids = ids + {ANSWERED}\n    return {{'input_ids': ids}}",
        2048,
    ),
    "behind itself, in one case or another": (
        f"    ids = {ASKED}\n    if row['more']:\n        ids = ids + {ANSWERED}\n"
        f"    elif row['most']:\n        ids = ids + {ANSWERED}\n    return {{'input_ids': ids}}",
        None,
    ),
    "behind itself in a list, each turn": (
        f"    ids = []\n    for turn in row['turns']:\n        ids = [*ids, *{ASKED}]\n    return {{'input_ids': ids}}",
        None,
    ),
    "arrays": (f"    return {{'input_ids': numpy.append({ASKED}, {ANSWERED})}}", 2048),
    "filled up by a number with a name": (
        f"    ids = {ASKED}\n    rest = 2048 - len(ids)\n    return {{'input_ids': ids + [0] * rest}}",
        2048,
    ),
    "filled up, if there is room": (
        f"    ids = {ASKED}\n    ids = ids + [0] * max(0, 2048 - len(ids))\n    return {{'input_ids': ids}}",
        2048,
    ),
    "filled up behind, by a number with a name": (
        f"    ids = {ASKED}\n    rest = 2048 - len(ids)\n    if rest > 0:\n        ids.extend([0] * rest)\n"
        "    return {'input_ids': ids}",
        2048,
    ),
    "filled up by torch, by a number with a name": (
        f"    ids = torch.tensor({ASKED})\n    rest = 2048 - len(ids)\n"
        "    return {'input_ids': torch.nn.functional.pad(ids, (0, rest))}",
        2048,
    ),
    "filled up with a tensor": (
        f"    ids = torch.tensor({ASKED})\n    return {{'input_ids': torch.cat([ids, torch.zeros(2048 - ids.shape[0])])}}",
        2048,
    ),
    "filled up with a tensor of a shape": (
        f"    ids = torch.tensor({ASKED})\n    return {{'input_ids': torch.cat([ids, torch.full((2048 - len(ids),), 0)])}}",
        2048,
    ),
    "put into a tensor": (
        f"    ids = {ASKED}\n    made = torch.full((2048,), 0)\n    made[: len(ids)] = torch.tensor(ids)\n"
        "    return {'input_ids': made}",
        2048,
    ),
    "put into a tensor whose width only running tells": (
        f"    ids = {ASKED}\n    made = torch.zeros(width(row))\n    made[: len(ids)] = torch.tensor(ids)\n"
        "    return {'input_ids': made}",
        None,
    ),
    "put into a tensor as wide as the longest": (
        f"    ids = {ASKED}\n    width = max(len(each) for each in ids)\n    made = torch.zeros((8, width))\n"
        "    return {'input_ids': made}",
        1024,
    ),
    "filled up to what only running tells": (
        f"    ids = {ASKED}\n    return {{'input_ids': ids + [0] * (width(row) - len(ids))}}",
        None,
    ),
    "filled up to the longest": (
        f"    ids = {ASKED}\n    width = max(map(len, row['asked']))\n"
        "    return {'input_ids': ids + [0] * (width - len(ids))}",
        1024,
    ),
    "every column, joined": (
        "    one, other = cut(row['asked']), cut(row['answered'])\n"
        "    return {k: one[k] + other[k] for k in one.keys()}",
        2048,
    ),
    "every column in a loop, joined": (
        "    made, one, other = {}, cut(row['asked']), cut(row['answered'])\n"
        "    for k in one.keys():\n        made[k] = one[k] + other[k]\n    return made",
        2048,
    ),
    "every column in a loop, joined where it is": (
        "    one, other = cut(row['asked']), cut(row['answered'])\n"
        "    for k, v in other.items():\n        one[k] += v\n    return one",
        2048,
    ),
    "every column in a loop over the names, joined": (
        "    one, other = cut(row['asked']), cut(row['answered'])\n"
        "    for k in one:\n        one[k] = one[k] + other[k]\n    return one",
        2048,
    ),
    "two columns in a loop, joined": (
        "    one, other = cut(row['asked']), cut(row['answered'])\n"
        "    for k in ['input_ids', 'attention_mask']:\n        one[k].extend(other[k])\n    return one",
        2048,
    ),
    "every column in a loop, cut": (
        "    made = tokenizer(row['asked'])\n"
        "    for k, v in made.items():\n        made[k] = v[:640]\n    return made",
        640,
    ),
    "every column in a loop, cut in another": (
        "    made = tokenizer(row['asked'])\n"
        "    for k in made.keys():\n        row[k] = [ids[:640] for ids in made[k]]\n    return row",
        640,
    ),
    "every column in a loop, each row cut where it is": (
        "    made = tokenizer(row['asked'])\n    for k in made.keys():\n"
        "        for i in range(len(made[k])):\n            made[k][i] = made[k][i][:640]\n    return made",
        640,
    ),
    "each row cut where it is": (
        "    made = tokenizer(row['asked'])\n    for i in range(8):\n"
        "        made['input_ids'][i] = torch.tensor(made['input_ids'][i][:640])\n    return made",
        640,
    ),
    "each row joined where it is": (
        "    one, other = cut(row['asked']), cut(row['answered'])\n    for i in range(8):\n"
        "        one['input_ids'][i] = one['input_ids'][i] + other['input_ids'][i]\n    return one",
        2048,
    ),
    "each row filled where it is": (
        "    made = cut(row['asked'])\n    for i in range(8):\n        ids = made['input_ids'][i]\n"
        "        made['input_ids'][i] = [0] * (2048 - len(ids)) + ids\n    return made",
        2048,
    ),
    "some columns in a loop": (
        "    made = cut(row['asked'])\n"
        "    for k in ['labels']:\n        made[k] = made[k][:64]\n    return made",
        1024,
    ),
    "what is no column, in a loop": (
        "    made = cut(row['asked'])\n    seen = {'a': [1] * 9}\n"
        "    for k in seen:\n        seen[k] = seen[k][:2]\n    return made",
        1024,
    ),
}


@pytest.mark.parametrize("shape", LENGTHS)
def test_a_row_is_as_long_as_what_is_made_of_its_tokens(tmp_path, shape):
    inside, length = LENGTHS[shape]
    before = f"row = texts[0]\nbefore = {ASKED}\n" if shape == "of outside" else ""
    text = SCRIPT.replace("{body}", before + MAPPED.format(inside=inside))

    assert plan_of(tmp_path, "torchrun --nproc_per_node 8 t.py", {"t.py": text}).seq_len == length


GROUPS = "def group(rows):\n    return {{'input_ids': {made}}}\nrows = texts.map(cut).map(group, batched=True)"
LATER = "rows = texts.map(cut).map({later})"
STAGES = {
    "joined": (LATER.format(later="lambda row: {'input_ids': row['input_ids'] * 2}"), 2048),
    "filled": (
        LATER.format(
            later="lambda row: {'input_ids': row['input_ids'] + [0] * (4096 - len(row['input_ids']))}"
        ),
        4096,
    ),
    "cut": (LATER.format(later="lambda row: {'input_ids': row['input_ids'][:640]}"), 1024),
    "looked at": (LATER.format(later="lambda row: {'size': len(row['input_ids'])}"), 1024),
    "a chat": (
        "rows = texts.map(lambda row: {'input_ids': tokenizer.apply_chat_template("
        "row['turns'], truncation=True, max_length=640)})",
        640,
    ),
    "a chat as text": (
        "rows = texts.map(lambda row: tokenizer.apply_chat_template("
        "row['turns'], tokenize=False, truncation=True, max_length=640))",
        None,
    ),
    "a collator": (
        "def batch(rows):\n    ids = [row['input_ids'] + [0] * (4096 - len(row['input_ids'])) for row in rows]\n"
        "    return {'input_ids': torch.tensor(ids)}\nrows = texts.map(cut)\nload(rows, collate_fn=batch)",
        4096,
    ),
    "a collator of a class": (
        "class Batch:\n    def __call__(self, rows):\n"
        "        ids = [pad(torch.tensor(row['input_ids']), (0, 4096 - len(row['input_ids']))) for row in rows]\n"
        "        return {'input_ids': torch.stack(ids)}\nrows = texts.map(cut)\nload(rows, collate_fn=Batch())",
        4096,
    ),
    "a collator that pads to the longest": (
        "def batch(rows):\n    longest = max(len(row['input_ids']) for row in rows)\n"
        "    return {'input_ids': [row['input_ids'] + [0] * (longest - len(row['input_ids'])) for row in rows]}\n"
        "rows = texts.map(cut)\nload(rows, collate_fn=batch)",
        1024,
    ),
    "a collator that joins its rows to one": (
        "def batch(rows):\n    ids = torch.cat([torch.tensor(row['input_ids']) for row in rows])[None]\n"
        "    return {'input_ids': ids}\nrows = texts.map(cut)\nload(rows, collate_fn=batch)",
        1024,
    ),
    "arrays in blocks": (
        GROUPS.format(made="numpy.concatenate(rows['input_ids']).reshape(-1, 4096).tolist()"),
        4096,
    ),
    "arrays in blocks that only running tells": (
        GROUPS.format(made="numpy.concatenate(rows['input_ids'])[: total(rows) * 4096].tolist()"),
        None,
    ),
    "tensors in blocks": (
        GROUPS.format(
            made="list(torch.cat([torch.tensor(ids) for ids in rows['input_ids']]).split(4096))"
        ),
        4096,
    ),
    "pieces with names": (
        "def group(rows):\n    ids = sum(rows['input_ids'], [])\n    made = []\n    for i in range(len(ids) // 4097):\n"
        "        start = i * 4097\n        end = start + 4097\n        made.append(ids[start:end][:-1])\n"
        "    return {'input_ids': made}\nrows = texts.map(cut).map(group, batched=True)",
        4096,
    ),
    "a generator": (
        "def made():\n    held = []\n    for row in texts.map(cut):\n        held += row['input_ids']\n"
        "        while len(held) >= 4096:\n            yield {'input_ids': held[:4096]}\n            held = held[4096:]\n"
        "rows = Dataset.from_generator(made)",
        4096,
    ),
    "rows of TRL's packing": ("rows = pack_dataset(texts.map(cut), 4096)", 4096),
    "TRL's rows of one length": (
        "rows = ConstantLengthDataset(tokenizer, texts.map(cut), seq_length=4096)",
        4096,
    ),
    "TRL's rows of the length that it has": (
        "rows = ConstantLengthDataset(tokenizer, texts)",
        1024,
    ),
    "rows of a packing that only running tells": (
        "rows = pack_dataset(texts.map(cut), seq_length=total(texts))",
        None,
    ),
    "a stream": (
        "class Rows(torch.utils.data.IterableDataset):\n"
        "    def __iter__(self):\n        held = []\n        for text in texts:\n            held += tokenizer(text).input_ids\n"
        "            while len(held) > 640:\n                yield {'input_ids': torch.tensor(held[:640])}\n"
        "                held = held[640:]\nrows = Rows()",
        640,
    ),
    "a dataset": (
        "class Rows(torch.utils.data.Dataset):\n    def ids(self, text):\n"
        "        return tokenizer(text, truncation=True, max_length=512)['input_ids']\n"
        "    def __getitem__(self, i):\n"
        "        return {'input_ids': self.ids(texts[i]['asked']) + self.ids(texts[i]['answered'])}\nrows = Rows()",
        1024,
    ),
}


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_made_of_rows_later_counts(tmp_path, stage):
    body, length = STAGES[stage]
    text = SCRIPT.replace("{body}", body)

    assert plan_of(tmp_path, "torchrun --nproc_per_node 8 t.py", {"t.py": text}).seq_len == length


def test_where_rows_of_no_known_length_are_made_is_said(tmp_path):
    text = SCRIPT.replace("{body}", MAPPED.format(inside=LENGTHS["turns"][0]))
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 t.py", {"t.py": text})
    line = next(n for n, each in enumerate(text.split("\n"), 1) if "'input_ids': ids" in each)

    assert [str(notice.where) for notice in plan.notices if "seq_len" in notice.message] == [
        f"t.py:{line}"
    ]

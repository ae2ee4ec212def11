"""A collator of the script's own that makes several rows of one holds more than the batch size says."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

from preflight.unpriced_names import GROWN_BY_COLLATOR

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

class Collator:
    def __call__(self, rows):
        {body}
        ids = torch.tensor(ids)
        return {{"input_ids": ids, "labels": ids}}

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
args = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
Trainer(model=model, args=args, train_dataset=rows, data_collator=Collator()).train()
"""


@pytest.mark.parametrize(
    ("body", "is_grown"),
    [
        ("ids = [row['input_ids'] for row in rows for _ in range(4)]", True),
        ("ids = [row[name] for row in rows for name in ('first', 'second')]", True),
        ("ids = []\n        for row in rows:\n            ids.append(row['first'])\n            ids.append(row['second'])", True),
        ("ids = []\n        for row in rows:\n            ids.extend([row['first'], row['second']])", True),
        ("ids = []\n        for row in rows:\n            ids += [row['first'], row['second']]", True),
        ("ids = []\n        for row in rows:\n            ids += [2, tokenizer.eos_token_id]", False),
        ("ids = [row['first'] for row in rows] + [row['second'] for row in rows]", True),
        ("one = [row['first'] for row in rows]\n        ids = one + [row['second'] for row in rows]", True),
        ("ids = torch.cat([pad(rows)['first'], pad(rows)['second']])", True),
        ("ids = torch.cat([pad(rows)['first'], pad(rows)['second']], dim=0)", True),
        ("ids = torch.cat([pad(rows)['first'], pad(rows)['second']], dim=1)", False),
        ("ids = [[-100 for _ in row['asked']] + [word for word in row['said']] for row in rows]", False),
        ("ids = [row['input_ids'] for row in rows]", False),
        ("ids = [word for row in rows for word in row['input_ids']]", False),
        ("ids, mask = [], []\n        for row in rows:\n            ids.append(row['input_ids'])\n            mask.append(1)", False),
        ("ids = []\n        for row in rows:\n            if row['is_long']:\n                ids.append(row['cut'])\n            else:\n                ids.append(row['input_ids'])", False),
    ],
)  # fmt: skip
def test_rows_that_a_collator_makes_more_of_are_named(body, is_grown, tmp_path):
    plan = plan_of(
        tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": SCRIPT.format(body=body)}
    )

    assert (GROWN_BY_COLLATOR in {notice.unpriced for notice in plan.notices}) is is_grown


@pytest.mark.parametrize(
    ("body", "is_grown"),
    [
        ("ids = torch.stack([row['input_ids'] for row in rows]).repeat(4, 1)", True),
        ("ids = torch.stack([row['input_ids'] for row in rows]).repeat_interleave(self.times, dim=0)", True),
        ("ids = torch.full((1, 9), 0).repeat(len(rows), 1)", False),
        ("ids = pad(rows)\n        place = torch.arange(9).repeat(2)", False),
        ("one = pad(rows)\n        ids = torch.cat([one, one.flip(-1)])", True),
        ("ids = pad([torch.cat([row['input_ids'], self.end]) for row in rows])", False),
        ("ids = self.pad(rows + rows)", True),
        ("ids = self.pad(rows * self.times)", True),
        ("ids = [self.width * 2 for row in rows]", False),
        ("ids = []\n        for row in rows:\n            for way in range(8):\n                ids.append(row['input_ids'])", True),
        ("ids = []\n        for row in rows:\n            for said in row['answers']:\n                ids.append(said)", True),
        ("ids = [said for row in rows for said in row['answers']]", True),
        ("ids = []\n        for row in rows:\n            one = []\n            for said in row['turns']:\n                one.append(said)\n            ids.append(one)", False),
        ("ids, lists = [], {'a': [], 'b': []}\n        for row in rows:\n            for name in ('a', 'b'):\n                lists[name].append(row[name])", False),
        ("ids = []\n        for row in rows:\n            for at in range(len(row['input_ids'])):\n                ids.append(row['input_ids'][at])", False),
        ("seen = [each for row in rows for each in row['images']]\n        ids = pad(rows)", False),
    ],
)  # fmt: skip
def test_rows_that_a_collator_repeats_are_named(body, is_grown, tmp_path):
    """They were said to fit with the rows that the batch size counts."""
    plan = plan_of(
        tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": SCRIPT.format(body=body)}
    )

    assert (GROWN_BY_COLLATOR in {notice.unpriced for notice in plan.notices}) is is_grown


MADE = """\
import torch
from transformers import AutoModelForCausalLM, DataCollatorForLanguageModeling, Trainer, TrainingArguments, default_data_collator

class Twice(DataCollatorForLanguageModeling):
    def torch_call(self, rows):
        return super().torch_call(rows + rows)

def twice_with(collate):
    return lambda rows: collate(rows + rows)

WAYS = {{"twice": lambda rows: default_data_collator(rows * 2)}}

def make(kind, **parts):
    return kind(model=model, args=args, train_dataset=rows, **parts)

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
args = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
trainer = {makes}
{after}
trainer.train()
"""


@pytest.mark.parametrize(
    ("makes", "after"),
    [
        ("make(Trainer, data_collator=Twice(tokenizer, mlm=False))", ""),
        ("Trainer(model, args, train_dataset=rows)", "trainer.data_collator = Twice(tokenizer, mlm=False)"),
        ("Trainer(model, args, lambda rows: default_data_collator(rows * 2), rows)", ""),
        ("Trainer(model, args, twice_with(default_data_collator), rows)", ""),
        ("Trainer(model, args, WAYS['twice'], rows)", ""),
    ],
)  # fmt: skip
def test_a_collator_that_repeats_rows_is_named_however_it_is_handed(makes, after, tmp_path):
    plan = plan_of(tmp_path, "python train.py", {"train.py": MADE.format(makes=makes, after=after)})

    assert GROWN_BY_COLLATOR in {notice.unpriced for notice in plan.notices}


FACTORY = """\
def fills(rows):
    def padded(ids, longest):
        return ids + [0] * (longest - len(ids))
    return default_data_collator([{{**row, "input_ids": padded(row["input_ids"], 512)}} for row in rows])

def makes(times):
    def padded(ids, longest):
        return ids + [0] * (longest - len(ids))
    def collate(rows):
        ids = torch.tensor([padded(row["input_ids"], 512) for row in {rows}])
        return {{"input_ids": ids, "labels": ids}}
    return collate
"""


@pytest.mark.parametrize(
    ("collate", "rows", "is_grown"),
    [("fills", "rows", False), ("makes(2)", "rows", False), ("makes(2)", "rows * times", True)],
)
def test_a_function_that_fills_one_row_makes_no_more_of_them(collate, rows, is_grown, tmp_path):
    made = MADE.format(makes=f"Trainer(model, args, {collate}, rows)", after="")
    text = FACTORY.format(rows=rows) + made
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert (GROWN_BY_COLLATOR in {notice.unpriced for notice in plan.notices}) is is_grown


LOOP = """\
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM
from rows import {name}
accelerator = Accelerator(mixed_precision="bf16")
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
loader = DataLoader(rows, batch_size=2, collate_fn={name}(2048))
optimizer = torch.optim.AdamW(model.parameters())
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for batch in loader:
    accelerator.backward(model(**batch).loss)
    optimizer.step()
"""
COLLATES = """\
def by_row(longest):
    def collate(rows):
        return tokenizer([row["text"] for row in rows], max_length=longest, truncation=True)
    return collate

def by_pair(longest):
    def collate(rows):
        texts = []
        for row in rows:
            texts.extend([row["chosen"], row["rejected"]])
        return tokenizer(texts, max_length=longest, truncation=True)
    return collate
"""


@pytest.mark.parametrize(("name", "is_grown"), [("by_row", False), ("by_pair", True)])
def test_so_are_those_of_a_loader_in_a_loop_of_ones_own(name, is_grown, tmp_path):
    files = {"train.py": LOOP.format(name=name), "rows.py": COLLATES}
    plan = plan_of(tmp_path, "accelerate launch --num_processes 8 train.py", files)

    assert (GROWN_BY_COLLATOR in {notice.unpriced for notice in plan.notices}) is is_grown


REWARD = """\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

class Collator:
    def __call__(self, rows):
        both = []
        for row in rows:
            both.append({"input_ids": row["input_ids_j"], "attention_mask": row["attention_mask_j"]})
            both.append({"input_ids": row["input_ids_k"], "attention_mask": row["attention_mask_k"]})
        return tokenizer.pad(both, padding=True, return_tensors="pt")

class RewardTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        rewards = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])[0]
        jidx = torch.arange(0, rewards.size(0), 2)
        loss = -torch.nn.functional.logsigmoid(rewards[jidx] - rewards[jidx + 1]).mean()
        return loss

tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
model = AutoModelForSequenceClassification.from_pretrained("meta-llama/Llama-2-7b-hf", num_labels=1)
args = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
RewardTrainer(model=model, args=args, train_dataset=rows, data_collator=Collator()).train()
"""


def test_pairs_of_a_reward_model_are_counted(tmp_path):
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": REWARD})

    assert plan.objective == "scored_pairs"
    assert GROWN_BY_COLLATOR not in {notice.unpriced for notice in plan.notices}


@pytest.mark.parametrize(
    ("collator", "seq_len"),
    [
        ("DataCollatorWithPadding(tokenizer, padding='max_length', max_length=2048)", 2048),
        ("DataCollatorForSeq2Seq(tokenizer, model, padding='max_length', max_length=256)", 512),
        ("DataCollatorWithPadding(tokenizer, padding=True, max_length=2048)", 512),
        ("DataCollatorWithPadding(tokenizer, padding='max_length', max_length=asked())", None),
        ("DataCollatorForLanguageModeling(tokenizer, mlm=False, pad_to_multiple_of=192)", 576),
        ("DataCollatorForLanguageModeling(tokenizer, mlm=False, pad_to_multiple_of=8)", 512),
    ],
)
def test_a_librarys_collator_may_pad_beyond_the_cut(tmp_path, collator, seq_len):
    script = (
        "from transformers import AutoModelForCausalLM, Trainer, TrainingArguments\n"
        "model = AutoModelForCausalLM.from_pretrained('Qwen/Qwen2.5-0.5B')\n"
        "tokenizer(rows, max_length=512, truncation=True)\n"
        "told = TrainingArguments('o', per_device_train_batch_size=2)\n"
        f"Trainer(model=model, args=told, data_collator={collator}).train()\n"
    )
    assert plan_of(tmp_path, "python t.py", {"t.py": script}).seq_len == seq_len


FILLS = """\
import math
import torch
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")

class Collator:
    def __init__(self, tokenizer, width=4096):
        self.tokenizer, self.width = tokenizer, width

    def __call__(self, rows):
        count = len(rows)
        longest = max(len(row["input_ids"]) for row in rows)
        {body}
        return {{"input_ids": ids, "labels": ids}}

def encode(row):
    return tokenizer(row["text"], truncation=True, max_length=512)

model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
args = TrainingArguments(output_dir="out", per_device_train_batch_size=2, bf16=True)
collate = Collator(tokenizer, 2048)
Trainer(model=model, args=args, train_dataset=load_dataset("json").map(encode), data_collator=collate).train()
"""


@pytest.mark.parametrize(
    ("body", "length"),
    [
        ("ids = torch.zeros(len(rows), 4096)", 4096),
        ("ids = torch.full((count, 1024), 0)", 1024),
        ("ids = torch.full((count, self.width), 0)", 2048),
        ("ids = torch.full((count, 256), 0)", 512),
        ("ids = torch.full((count, longest), 0)", 512),
        ("ids = torch.full((count, self.unheard), 0)", None),
        ("ids = self.tokenizer.pad(rows)['input_ids']\n        classes = torch.zeros(len(rows), 4096)", 512),
        ("ids = self.tokenizer.pad(rows)['input_ids']\n        features = torch.zeros(count, self.unheard)", 512),
        ("ids = self.tokenizer.pad(rows)['input_ids']\n        row = {'attention_mask': torch.ones(count, 1024)}", 1024),
        ("longest = (longest + 767) // 768 * 768\n        ids = torch.zeros(count, longest)", 768),
        ("longest = math.ceil(longest / 300) * 300\n        ids = torch.zeros(count, longest)", 600),
        ("longest = longest // 2 * 3\n        ids = torch.zeros(count, longest)", 512),
        ("ids = self.tokenizer.pad(rows, padding='max_length', max_length=self.width)['input_ids']", 2048),
        ("ids = self.tokenizer.pad(rows, pad_to_multiple_of=768)['input_ids']", 768),
        ("ids = self.tokenizer.pad(rows, padding=True)['input_ids']", 512),
    ],
)  # fmt: skip
def test_rows_are_as_long_as_their_collator_fills_them(body, length, tmp_path):
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": FILLS.format(body=body)})  # fmt: skip

    assert plan.seq_len == length


@pytest.mark.parametrize(
    ("way", "length"), [("'fill'", 4096), ("'plain'", None), ("args.way", 4096)]
)
def test_a_collator_may_be_an_entry_of_a_dict(way, length, tmp_path):
    whole, _, _ = FILLS.format(body="ids = torch.full((count, 4096), 0)").rpartition("Trainer(")
    ways = "ways = {'fill': collate, 'plain': default_data_collator}"
    makes = f"Trainer(model=model, args=args, train_dataset=rows, data_collator=ways[{way}])"
    rows = 'rows = load_dataset("json").map(encode)'
    text = f"{whole}{rows}\n{ways}\ntrainer = {makes}\ntrainer.train()\n"
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert plan.seq_len == length


HANDED = {
    "behind a trainer": ("", "Trainer(model=model, args=args, train_dataset=rows)", "trainer.data_collator = collate"),
    "by a function": ("def make(kind, **parts):\n    return kind(model=model, args=args, **parts)",
                      "make(Trainer, train_dataset=rows, data_collator=collate)", ""),
    "by a constructor": ("class Own(Trainer):\n    def __init__(self, **parts):\n        super().__init__(data_collator=collate, **parts)",
                         "Own(model=model, args=args, train_dataset=rows)", ""),
}  # fmt: skip


@pytest.mark.parametrize(("width", "length"), [(4096, None), (256, 512)])
@pytest.mark.parametrize("way", HANDED)
def test_rows_have_no_length_where_a_collator_that_is_not_seen_to_be_handed_fills_further(
    way, width, length, tmp_path
):
    """They were as long as the tokenizer cuts them, and said to fit."""
    before, makes, after = HANDED[way]
    whole, _, _ = FILLS.format(body=f"ids = torch.full((count, {width}), 0)").rpartition("Trainer(")
    rows = 'rows = load_dataset("json").map(encode)'
    text = f"{whole}{rows}\n{before}\ntrainer = {makes}\n{after}\ntrainer.train()\n"
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert plan.seq_len == length

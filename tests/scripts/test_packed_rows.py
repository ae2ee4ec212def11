"""Rows that a script joins until a length is reached are as long as that, however short its tokenizer or a filter left them."""

from __future__ import annotations

import random
from collections import defaultdict
from itertools import chain

import pytest
from launch_of_script import opens, plan_of

PACKERS = {
    "first fit": """\
class Blocks:
    def __init__(self, size=4096):
        self.size = size
    def __call__(self, batch):
        result, block = defaultdict(list), defaultdict(list)
        for at in range(len(batch["input_ids"])):
            if len(block["input_ids"]) + len(batch["input_ids"][at]) <= self.size:
                for name in batch:
                    block[name] += batch[name][at]
            else:
                for name in batch:
                    result[name].append(block[name])
                    block[name] = list(batch[name][at])
        for name in batch:
            result[name].append(block[name])
        return dict(result)
""",
    "pieces": """\
class Blocks:
    def __init__(self, size=4096):
        self.size = size
    def __call__(self, batch):
        joined = {name: list(chain(*rows)) for name, rows in batch.items()}
        total = len(joined["input_ids"])
        return {k: [v[i : i + self.size] for i in range(0, total, self.size)] for k, v in joined.items()}
""",
    "a buffer": """\
class Blocks:
    def __init__(self, size=4096):
        self.size = size
    def __call__(self, batch):
        rows, kept = [], []
        for ids in batch["input_ids"]:
            kept += ids
            while len(kept) >= self.size:
                rows.append(kept[: self.size])
                kept = kept[self.size :]
        return {"input_ids": rows}
""",
}
SCRIPT = """\
from collections import defaultdict
from dataclasses import dataclass
from itertools import chain
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Own(TrainingArguments):
    model_max_length: int = 512
    block: int = 2048
    joins: bool = False

{packer}
own, = HfArgumentParser(Own).parse_args_into_dataclasses()
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
rows = load_dataset("rows", split="train")
{cut}
if {asked}:
    rows = {joined}
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype="bfloat16")
Trainer(model=model, args=own, train_dataset=rows).train()
"""
CUTS = {
    "a tokenizer": "rows = rows.map(lambda row: tokenizer(row['text'], truncation=True, max_length=own.model_max_length))",
    "a filter": "rows = rows.map(lambda row: tokenizer(row['text'])).filter(lambda row: len(row['input_ids']) <= own.model_max_length)",
}
MAPPED = "rows.map(Blocks(size=own.block), batched=True)"


def read(folder, packer="first fit", cut="a tokenizer", flags="--joins", joined=MAPPED, asked="own.joins"):  # fmt: skip
    text = SCRIPT.format(
        packer=PACKERS.get(packer, packer), cut=CUTS[cut], joined=joined, asked=asked
    )
    command = f"torchrun --nproc_per_node 8 train.py --output_dir out {flags}"
    return plan_of(folder, command, {"train.py": text})


def length(plan):
    return None if "seq_len" in opens(plan) else plan.seq_len


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("packer", PACKERS)
def test_rows_are_as_long_as_what_the_scripts_own_packer_makes(packer, cut, tmp_path):
    """The packer runs here, on rows of every length up to the cut."""
    own = {"defaultdict": defaultdict, "chain": chain}
    exec(PACKERS[packer], own)
    rows = random.Random(0)
    batch = {"input_ids": [[1] * rows.randint(1, 64) for _ in range(2000)]}
    longest = max(map(len, own["Blocks"](size=256)(batch)["input_ids"]))
    flags = "--joins --model_max_length 64 --block 256"

    assert longest == length(read(tmp_path, packer, cut, flags))


@pytest.mark.parametrize("packer", PACKERS)
def test_rows_that_are_not_joined_are_as_long_as_they_are_cut(packer, tmp_path):
    assert length(read(tmp_path, packer, flags="--model_max_length 640")) == 640


def test_a_row_that_is_longer_alone_stays_whole_where_nothing_cuts_it(tmp_path):
    flags = "--joins --block 256"

    assert length(read(tmp_path, "first fit", flags=flags)) == 512
    assert length(read(tmp_path, "a buffer", flags=flags)) == 256


@pytest.mark.parametrize(("packer", "expected"), [("first fit", None), ("a buffer", 2048), ("pieces", 2048)])  # fmt: skip
def test_rows_that_nothing_cuts_are_bounded_only_by_what_splits_them(packer, expected, tmp_path):
    """A row that is longer alone is one that nobody knows the length of."""
    text = SCRIPT.format(
        packer=PACKERS[packer],
        cut="rows = rows.map(lambda row: tokenizer(row['text']))",
        joined=MAPPED,
        asked="own.joins",
    ).replace("    model_max_length: int = 512\n", "")
    command = "torchrun --nproc_per_node 8 train.py --output_dir out --joins"

    assert length(plan_of(tmp_path, command, {"train.py": text})) == expected


def test_a_length_that_only_running_tells_is_open(tmp_path):
    joined = "rows.map(Blocks(size=find_size()), batched=True)"

    assert length(read(tmp_path, joined=joined)) is None


def test_rows_that_may_be_joined_are_of_no_known_length(tmp_path):
    assert length(read(tmp_path, asked="is_small(rows)")) is None


DATASET = """\
class Joined(torch.utils.data.Dataset):
    def __init__(self, rows, size=4096):
        self.rows, kept = [], []
        for row in rows:
            kept += row["input_ids"]
            while len(kept) >= size:
                self.rows.append({"input_ids": kept[:size]})
                kept = kept[size:]
    def __getitem__(self, at):
        return self.rows[at]
"""


@pytest.mark.parametrize(("joined", "expected"), [("Joined(rows, own.block)", 2048), ("Joined(rows)", 4096)])  # fmt: skip
def test_a_dataset_around_another_makes_longer_rows_too(joined, expected, tmp_path):
    assert length(read(tmp_path, DATASET, joined=joined)) == expected


FUNCTION = """\
def join(batch, limit):
    blocks, block = [], []
    for ids in batch["input_ids"]:
        if len(block) + len(ids) > limit:
            blocks.append(block)
            block = []
        block = block + ids
        block.extend([])
    return {"input_ids": blocks}
"""


@pytest.mark.parametrize(
    "joined",
    [
        "rows.map(join, batched=True, fn_kwargs={'limit': own.block})",
        "rows.map(partial(join, limit=own.block), batched=True)",
    ],
)
def test_a_function_that_joins_is_told_how_far_by_whoever_hands_it_over(joined, tmp_path):
    assert length(read(tmp_path, FUNCTION, joined=joined)) == 2048


def test_a_length_at_which_tokens_are_only_counted_cuts_no_row(tmp_path):
    """A filter that asks for one more token than it lets through was another length, and none was known."""
    counts = "rows = rows.filter(lambda row: len(tokenizer(row['text'], truncation=True, max_length=own.model_max_length + 1).input_ids) < 500)"

    assert length(read(tmp_path, counts, flags="")) == 512

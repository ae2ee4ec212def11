"""The length of the rows is what a script's tokenizer and datasets are told, through every default on the way."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.unpriced_names import GROWN_BY_COLLATOR

ARGUMENTS = {
    "dataclass": (
        "from dataclasses import dataclass, field\nfrom transformers import HfArgumentParser\n"
        "@dataclass\nclass Mine(TrainingArguments):\n"
        "    model_max_length: int = field(default=640)\n"
        "args, = HfArgumentParser(Mine).parse_args_into_dataclasses()\n"
    ),
    "some of several": (
        "from dataclasses import dataclass, field\nfrom transformers import HfArgumentParser\n"
        "@dataclass\nclass Mine(TrainingArguments):\n"
        "    model_max_length: int = field(default=640)\n"
        "args, = HfArgumentParser(Mine).parse_args_into_dataclasses(return_remaining_strings=True)[:-1]\n"
    ),
    "argparse": (
        "import argparse\nparser = argparse.ArgumentParser()\n"
        "parser.add_argument('--model_max_length', type=int, default=640)\n"
        "args = parser.parse_args()\n"
    ),
    "function": (
        "import argparse\ndef parse():\n    parser = argparse.ArgumentParser()\n"
        "    parser.add_argument('--model_max_length', type=int, default=640)\n"
        "    return parser.parse_args()\nargs = parse()\n"
    ),
}
CUTS = {
    "tokenizer": (
        "def encode(row):\n"
        "    return tokenizer(row['text'], truncation=True, max_length=args.model_max_length)\n"
        "rows = rows.map(encode)\n"
    ),
    "a tokenizer of another name": (
        "def encode(row):\n"
        "    return t(row['text'], truncation=True, max_length=args.model_max_length)\n"
        "rows = rows.map(encode)\n"
    ),
    "a tokenizer that an object holds": (
        "class Rows:\n    def __init__(self, t): self.t = t\n    def cut(self, length):\n"
        "        return rows.map(lambda row: self.t(row['text'], truncation=True, max_length=length))\n"
        "rows = Rows(tokenizer).cut(args.model_max_length)\n"
    ),
    "arguments of a map": (
        "def encode(row, cut, tokenizer):\n    return tokenizer(row['text'], truncation=True, max_length=cut)\n"
        "rows = rows.map(encode, fn_kwargs={'cut': args.model_max_length, 'tokenizer': tokenizer})\n"
    ),
    "a partial": (
        "def encode(row, cut=64):\n    return tokenizer(row['text'], truncation=True, max_length=cut)\n"
        "rows = rows.map(functools.partial(encode, cut=args.model_max_length), batched=True)\n"
    ),
    "a lambda": (
        "def encode(row, cut=64):\n    return tokenizer(row['text'], truncation=True, max_length=cut)\n"
        "rows = rows.map(lambda row: encode(row, args.model_max_length))\n"
    ),
    "a default": (
        "def encode(row, cut=args.model_max_length):\n"
        "    return tokenizer(row['text'], truncation=True, max_length=cut)\nrows = rows.map(encode)\n"
    ),
    "a generator": (
        "def make(texts, cut):\n    for text in texts:\n"
        "        yield tokenizer(text, truncation=True, max_length=cut)\n"
        "rows = Dataset.from_generator(make, gen_kwargs={'texts': rows, 'cut': args.model_max_length})\n"
    ),
    "dataset": (
        "class Rows(torch.utils.data.Dataset):\n"
        "    def __init__(self, path, model_max_length=4096):\n        self.length = model_max_length\n"
        "rows = Rows('rows.json', model_max_length=args.model_max_length)\n"
    ),
    "function": (
        "def make_data(path, tokenizer, max_length):\n    return path\n"
        "rows = make_data('rows.json', None, max_length=args.model_max_length)\n"
    ),
}
SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
{arguments}
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
{cuts}
Trainer(model=model, args=TrainingArguments(output_dir="out", bf16=True), train_dataset=rows).train()
"""


@pytest.mark.parametrize("arguments", sorted(ARGUMENTS))
@pytest.mark.parametrize("cuts", sorted(CUTS))
def test_a_default_reaches_what_cuts_rows(arguments, cuts, tmp_path):
    text = SCRIPT.format(arguments=ARGUMENTS[arguments], cuts=CUTS[cuts])
    own = " --output_dir out" if arguments == "dataclass" else ""
    command = f"torchrun --nproc_per_node 8 train.py{own}"

    assert plan_of(tmp_path, command, {"train.py": text}).seq_len == 640
    said = plan_of(tmp_path, f"{command} --model_max_length 1024", {"train.py": text})
    assert said.seq_len == 1024


def test_lengths_that_differ_are_open(tmp_path):
    cuts = (
        "rows = rows.map(lambda row: tokenizer(row['q'], truncation=True, max_length=256))\n"
        "def other(row):\n    return tokenizer(row['a'], truncation=True, max_length=2048)\n"
        "def one(row):\n    return tokenizer(row['q'], truncation=True, max_length=256)\n"
        "rows = rows.map(one).map(other)\n"
    )
    text = SCRIPT.format(arguments="", cuts=cuts)
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert plan.seq_len is None or "seq_len" in opens(plan)


PLAIN_LOOP = """\
import torch
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer
{arguments}
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype=torch.bfloat16)
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
{cuts}
optimizer = torch.optim.AdamW(model.parameters())
for batch in DataLoader(rows, batch_size=1, shuffle=True):
    model(**batch).loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("script", [SCRIPT, PLAIN_LOOP], ids=["trainer", "loop"])
@pytest.mark.parametrize("one", ["256", "len(rows[0])", "2048"])
@pytest.mark.parametrize("other", ["256", "len(rows[0])"])
def test_a_length_is_known_where_every_call_that_cuts_says_the_same(script, one, other, tmp_path):
    cuts = (
        f"def one(row):\n    return tokenizer(row['q'], truncation=True, max_length={one})\n"
        f"def other(row):\n    return tokenizer(row['q'], truncation=True, max_length={other})\n"
        "rows = torch.utils.data.ConcatDataset([texts.map(one), texts.map(other)])\n"
    )
    text = script.format(arguments="", cuts=cuts)
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert plan.seq_len == (256 if one == other == "256" else None)


def test_a_tokenizer_that_does_not_cut_says_no_length(tmp_path):
    cuts = "def one(row):\n    return tokenizer(row['q'], max_length=256)\nrows = rows.map(one)\n"
    text = SCRIPT.format(arguments="", cuts=cuts)
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert plan.seq_len is None


PIECES = """\
def encode(row):
    return tokenizer(row["text"]{cut})
def group(rows):
    joined = {{name: sum(rows[name], []) for name in rows}}
    total = len(joined["input_ids"]) // {size} * {size}
    return {{name: [ids[i : i + {size}] for i in range(0, total, {size})] for name, ids in joined.items()}}
rows = rows.map(encode, batched=True).map(group, batched=True)
"""


@pytest.mark.parametrize("cut", ["", ", truncation=True, max_length=512"])
@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        ("size = 640", "size"),
        ("SIZES = {'long': 640}", "SIZES['long']"),
        (ARGUMENTS["argparse"], "args.model_max_length"),
    ],
)
def test_pieces_of_joined_rows_are_as_long_as_they_are_cut(arguments, size, cut, tmp_path):
    text = SCRIPT.format(arguments=arguments, cuts=PIECES.format(size=size, cut=cut))

    assert plan_of(tmp_path, "python train.py", {"train.py": text}).seq_len == 640


KEPT = """\
from datasets import load_dataset
def encode(row):
    return tokenizer(row["text"], truncation=True)
train = load_dataset("rows", split="train").map(encode).filter(lambda row: {test})
{other}
"""


@pytest.mark.parametrize(
    ("test", "other", "expected"),
    [
        ("len(row['input_ids']) <= args.model_max_length", "", 640),
        ("len(row['chosen_input_ids']) < 512 and len(row['rejected_input_ids']) < 512", "", 512),
        ("len(row['text']) <= 512", "", None),
        ("len(row['input_ids']) >= 512", "", None),
        ("len(row['input_ids']) <= 512 or row['is_long']", "", None),
        ("len(row['input_ids']) <= 512", "test = load_dataset('rows', split='test').map(encode)", None),
    ],
)  # fmt: skip
def test_rows_that_a_filter_keeps_are_no_longer_than_it_lets_through(
    test, other, expected, tmp_path
):
    cuts = KEPT.format(test=test, other=other)
    text = SCRIPT.format(arguments=ARGUMENTS["argparse"], cuts=cuts)
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert (None if "seq_len" in opens(plan) else plan.seq_len) == expected


def test_rows_that_may_be_in_no_piece_leave_the_length_open(tmp_path):
    cuts = PIECES.format(size="640", cut=", truncation=True, max_length=2048")
    plan = plan_of(
        tmp_path, "python train.py", {"train.py": SCRIPT.format(arguments="", cuts=cuts)}
    )

    assert plan.seq_len is None or "seq_len" in opens(plan)


def test_pieces_of_nobody_knows_what_leave_the_length_open(tmp_path):
    cuts = PIECES.format(size="size", cut=", truncation=True, max_length=512")
    text = SCRIPT.format(arguments="size = min(tokenizer.model_max_length, find())", cuts=cuts)
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert plan.seq_len is None or "seq_len" in opens(plan)


def test_rows_that_are_cut_into_batches_are_no_pieces(tmp_path):
    cuts = (
        "def batches(rows):\n    return [rows[i : i + 16] for i in range(0, len(rows), 16)]\n"
        "rows = batches(rows)\n" + CUTS["tokenizer"]
    )
    text = SCRIPT.format(arguments=ARGUMENTS["argparse"], cuts=cuts)

    assert plan_of(tmp_path, "python train.py", {"train.py": text}).seq_len == 640


GROUPS = """\
def encode(rows):
    {made} = {call}
    return {{name: [ids[at : at + 3] for at in range(0, len(ids), 3)] for name, ids in {made}.items()}}
rows = rows.map(encode, batched=True)
"""


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("tokenizer(rows['one'], rows['other'], truncation=True, max_length=args.model_max_length)", 640),
        ("tokenizer(rows['one'])", None),
        ("joined(tokenizer(rows['one']))", 3),
    ],
)  # fmt: skip
def test_texts_that_are_put_into_groups_are_as_long_as_before(call, expected, tmp_path):
    cuts = GROUPS.format(made="tokens", call=call)
    text = SCRIPT.format(arguments=ARGUMENTS["argparse"], cuts=cuts)
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert (None if "seq_len" in opens(plan) else plan.seq_len) == expected
    is_grown = GROWN_BY_COLLATOR in {notice.unpriced for notice in plan.notices}
    assert is_grown is (expected != 3)


COLLATOR = """\
class DataCollatorForRows:
    def __init__(self, tokenizer, source_max_len, target_max_len):
        self.tokenizer, self.source, self.target = tokenizer, source_max_len, target_max_len
    def __call__(self, rows):
        asked = self.tokenizer([row["q"] for row in rows], truncation=True, max_length=self.source)
        told = self.tokenizer([row["a"] for row in rows], truncation=True, max_length=self.target)
        return [{row} for one, other in zip(asked["input_ids"], told["input_ids"])]
collator = DataCollatorForRows(tokenizer, source_max_len=args.source, target_max_len=256)
"""
SOURCE = ARGUMENTS["argparse"].replace("model_max_length", "source")


def test_a_question_and_its_answer_are_as_long_as_both_where_they_are_joined(tmp_path):
    def length(row):
        text = SCRIPT.format(arguments=SOURCE, cuts=COLLATOR.replace("{row}", row))
        words = "torchrun --nproc_per_node 8 train.py --source 1024"
        return plan_of(tmp_path, words, {"train.py": text}).seq_len

    assert length("one + other") == 1280
    assert length('{"asked": one, "told": other}') is None  # an encoder's and a decoder's


CALLED = """\
from dataclasses import dataclass
@dataclass
class {name}(object):
    tokenizer: object
    source_max_len: int
    target_max_len: int = 256
    def __call__(self, rows):
        asked = self.tokenizer([row["q"] for row in rows], truncation=True, max_length=self.source_max_len)
        told = self.tokenizer([row["a"] for row in rows], truncation=True, max_length=self.target_max_len)
        ids = [torch.tensor(one + other) for one, other in zip(asked["input_ids"], told["input_ids"])]
        return {{"input_ids": torch.nn.utils.rnn.pad_sequence(ids)}}
collator = {name}(tokenizer, source_max_len=args.source)
"""
CHANGED = """\
if args.more:
    class Asks(TrainerCallback):
        def on_evaluate(self, args, state, control, **kwargs):
            trainer.data_collator.source_max_len = args.asked
"""


@pytest.mark.parametrize("name", ["DataCollatorForRows", "Joins"])
def test_what_a_dataclass_is_made_with_is_what_its_objects_hold(name, tmp_path):
    def length(more):
        switch = "parser.add_argument('--more', action='store_true')\nargs = parser"
        arguments = SOURCE.replace("args = parser", switch)
        text = SCRIPT.format(arguments=arguments, cuts=CALLED.format(name=name) + CHANGED)
        words = f"torchrun --nproc_per_node 8 train.py --source 1024 {more}"
        plan = plan_of(tmp_path, words, {"train.py": text})
        return None if "seq_len" in opens(plan) else plan.seq_len

    assert length("") == 1280
    assert length("--more") is None  # an evaluation has other rows


TOKENIZES = """\
tokenizer.model_max_length = args.model_max_length
def encode(row):
    return tokenizer(row["text"]{cut})
rows = rows.map(encode)
{more}
"""
UNCUT = {
    "nowhere": ("", ""),
    "in a message alone": ("", 'print("rows are truncated at max_length tokens")'),
}
CUT = {
    "by the tokenizer": (", truncation=True", ""),
    "in a slice": ("", "rows = rows[:, : tokenizer.model_max_length]"),
}


@pytest.mark.parametrize("cut, more", UNCUT.values(), ids=UNCUT)
def test_a_length_that_only_the_tokenizer_knows_cuts_nothing(cut, more, tmp_path):
    text = SCRIPT.format(
        arguments=ARGUMENTS["dataclass"], cuts=TOKENIZES.format(cut=cut, more=more)
    )
    command = "torchrun --nproc_per_node 8 train.py --output_dir out --model_max_length 512"
    plan = plan_of(tmp_path, command, {"train.py": text})

    assert plan.seq_len is None
    assert any("cuts nothing" in notice.message for notice in plan.notices)
    assert all("seq_len" not in reading.fields for reading in plan.version_readings)


@pytest.mark.parametrize("cut, more", CUT.values(), ids=CUT)
def test_a_tokenizers_length_counts_where_something_cuts(cut, more, tmp_path):
    text = SCRIPT.format(
        arguments=ARGUMENTS["dataclass"], cuts=TOKENIZES.format(cut=cut, more=more)
    )
    command = "torchrun --nproc_per_node 8 train.py --output_dir out --model_max_length 512"

    assert plan_of(tmp_path, command, {"train.py": text}).seq_len == 512
    joined = text.replace("    model_max", "    data_flatten: bool = False\n    model_max")
    joins = plan_of(tmp_path, f"{command} --data_flatten True", {"train.py": joined})
    assert joins.seq_len is None


TRAINERS = {
    "SFTTrainer": ("trl==0.11.4", "max_seq_length"),
    "DPOTrainer": ("trl==0.11.4", "max_length"),
    "RewardTrainer": ("trl==0.12.2", "max_length"),
}
"""Trainer -> a release of TRL that takes the length as a keyword of the trainer, and that keyword."""


@pytest.mark.parametrize("own", ["", "    max_length: int = None\n"])
@pytest.mark.parametrize("trainer", sorted(TRAINERS))
def test_a_length_that_a_trainer_is_told_holds_where_a_parser_makes_the_arguments(
    trainer, own, tmp_path
):
    pin, keyword = TRAINERS[trainer]
    text = (
        "from dataclasses import dataclass\nimport torch\n"
        "from transformers import AutoModelForCausalLM, HfArgumentParser, TrainingArguments\n"
        f"from trl import {trainer}\n"
        "@dataclass\nclass Rows:\n    longest: int = 320\n"
        f"@dataclass\nclass Mine(TrainingArguments):\n    note: str = ''\n{own}"
        "def main():\n"
        "    arguments, rows = HfArgumentParser((Mine, Rows)).parse_args_into_dataclasses()\n"
        "    model = AutoModelForCausalLM.from_pretrained('meta-llama/Llama-2-7b-hf')\n"
        f"    {trainer}(model=model, args=arguments, {keyword}=rows.longest).train()\n"
        "main()\n"
    )
    files = {"train.py": text, "requirements.txt": f"{pin}\n"}
    command = "torchrun --nproc_per_node 8 train.py --output_dir out --bf16"

    assert plan_of(tmp_path, command, files).seq_len == 320
    assert plan_of(tmp_path, f"{command} --longest 96", files).seq_len == 96


JOINS = """\
from dataclasses import dataclass
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Rows:
    max_seq_length: int = 512
    joins_rows: bool = False
    max_packed_tokens: int = 4096

class JoinedData:
    def __init__(self, rows, max_packed_tokens=8192, joins_rows=True):
        self.longest, self.joins_rows = max_packed_tokens, joins_rows

def make(own):
    rows = [tokenizer(text, truncation=True, max_length=own.max_seq_length) for text in texts]
    if own.joins_rows:
        return JoinedData(rows, max_packed_tokens=own.max_packed_tokens)
    return rows

own, arguments = HfArgumentParser((Rows, TrainingArguments)).parse_args_into_dataclasses()
{copies}
tokenizer = AutoTokenizer.from_pretrained("meta-llama/Llama-2-7b-hf")
tokenizer.model_max_length = own.max_seq_length
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-2-7b-hf", torch_dtype="bfloat16")
Trainer(model=model, args=arguments, train_dataset=make(own)).train()
"""


@pytest.mark.parametrize(
    ("flags", "length"),
    [
        ("", 512),
        ("--joins_rows True", 4096),
        ("--joins_rows True --max_packed_tokens 256", 512),  # one row may be as long
        ("--joins_rows True --max_packed_tokens 16384", 16384),
        ("--max_packed_tokens 16384", 512),
    ],
)
def test_rows_that_a_dataset_joins_are_as_long_as_it_is_told(tmp_path, flags, length):
    command = f"torchrun --nproc_per_node 8 train.py --output_dir out {flags}"

    assert plan_of(tmp_path, command, {"train.py": JOINS.format(copies="")}).seq_len == length


@pytest.mark.parametrize(
    ("copies", "length"),
    [
        ("arguments.joins_rows = own.joins_rows", 4096),
        ("own.joins_rows = arguments.do_eval", None),
        ("own.joins_rows = arguments.joins_rows = True", None),
        ("for each in (own, arguments):\n    each.joins_rows = own.joins_rows or each.do_eval", None),
    ],
)  # fmt: skip
def test_an_attribute_that_is_copied_to_another_object_keeps_its_value(tmp_path, copies, length):
    command = "torchrun --nproc_per_node 8 train.py --output_dir out --joins_rows True"

    plan = plan_of(tmp_path, command, {"train.py": JOINS.format(copies=copies)})
    assert plan.seq_len == length


FILLED = """\
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
rows = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=512{first}))
{more}
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B")
Trainer(model=model, args=TrainingArguments("o", per_device_train_batch_size=2), train_dataset=rows).train()
"""
MORE = "others = others.map(lambda row: tokenizer(row, truncation=True, max_length=512{padding}))"


@pytest.mark.parametrize(
    ("first", "more", "kind"),
    [
        (", padding='max_length'", "", "fixed"),
        (", padding=True", "", None),
        ("", "", None),
        (", padding='max_length'", MORE.format(padding=", padding='max_length'"), "fixed"),
        (", padding='max_length'", MORE.format(padding=""), None),
        (", padding=asked()", "", None),
    ],
)
def test_rows_that_are_filled_up_are_as_long_as_where_they_are_cut(tmp_path, first, more, kind):
    text = FILLED.format(first=first, more=more)
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})

    assert (plan.seq_len, plan.sequence_kind) == (512, kind)


def test_a_multiple_that_trl_pads_to_counts_where_a_script_says_it(tmp_path):
    text = (
        "from trl import SFTConfig, SFTTrainer\n"
        "arguments = SFTConfig('out', max_length=1000, pad_to_multiple_of=64)\n"
        "SFTTrainer('gpt2', args=arguments, train_dataset=rows).train()\n"
    )

    assert plan_of(tmp_path, "torchrun --nproc_per_node 2 t.py", {"t.py": text}).seq_len == 1024


@pytest.mark.parametrize("said", ["-1", "0"])
@pytest.mark.parametrize("as_default", [True, False])
def test_a_length_of_nothing_in_a_script_cuts_nothing(said, as_default, tmp_path):
    cuts = (
        "class Rows(torch.utils.data.Dataset):\n"
        f"    def __init__(self, path, max_length={said}):\n        self.length = max_length\n"
        f"rows = Rows('rows.json'{'' if as_default else f', max_length={said}'})\n"
    )
    text = SCRIPT.format(arguments="", cuts=cuts)
    plan = plan_of(tmp_path, "torchrun --nproc_per_node 8 train.py", {"train.py": text})

    assert plan.seq_len is None
    assert any("sequences are not cut" in notice.message for notice in plan.notices)


@pytest.mark.parametrize(
    ("filled", "length"), [("args.max_length + 32", None), ("args.max_length", 512)]
)
def test_rows_that_are_filled_to_more_than_a_flag_says_are_not_as_long_as_it(
    tmp_path, filled, length
):
    """Of settings that nobody follows a flag's name said the length, and the collator filled every row to more."""
    text = f"""\
import argparse
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments
from elsewhere import merged

parser = argparse.ArgumentParser()
parser.add_argument("--max_length", type=int)
args = merged(parser.parse_args())
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B")
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-1.7B")
collator = DataCollatorWithPadding(tokenizer, padding="max_length", max_length={filled})
Trainer(model, TrainingArguments("out"), collator, rows).train()
"""
    plan = plan_of(tmp_path, "python train.py --max_length 512", {"train.py": text})

    assert plan.seq_len == length


@pytest.mark.parametrize(("width", "length"), [("(width + 31) // 32 * 32", None), ("width", 500)])
def test_rows_that_are_rounded_up_are_not_as_long_as_a_flag_says(tmp_path, width, length):
    """Where the cut itself was not read, the flag's name said the length that the collator rounds up."""
    text = f"""\
import argparse
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

parser = argparse.ArgumentParser()
parser.add_argument("--cutoff_len", type=int)
args = parser.parse_args()
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B")
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-1.7B")


def collate(rows):
    ids = [tokenizer(row["text"])["input_ids"][: args.cutoff_len] for row in rows]
    width = max(len(each) for each in ids)
    width = {width}
    ids = torch.tensor([each + [0] * (width - len(each)) for each in ids])
    return {{"input_ids": ids, "labels": ids}}


Trainer(model, TrainingArguments("out"), collate, rows).train()
"""
    text = text.replace("collate, rows", "data_collator=collate, train_dataset=rows")
    plan = plan_of(tmp_path, "python train.py --cutoff_len 500", {"train.py": text})

    assert plan.seq_len == length

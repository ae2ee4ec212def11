"""Options of a script's own: what it reads nowhere says nothing, and what it changes is not what the command says."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

ARGPARSE = """\
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--max_seq_length", type=int, default=512)
parser.add_argument("--batch_size", type=int, default=4)
parser.add_argument("--gradient_checkpointing", action="store_true", help="sets gradient_checkpointing")
parser.add_argument("--use_lora", action="store_true")
parser.add_argument("--lora_r", type=int, default=8)
args = parser.parse_args()
"""
DATACLASS = """\
from dataclasses import dataclass, field, replace
from transformers import HfArgumentParser


@dataclass
class ScriptArguments:
    max_seq_length: int = 512
    batch_size: int = 4
    gradient_checkpointing: bool = False
    use_lora: bool = field(default=False, metadata={"help": "use_lora"})
    lora_r: int = 8


(args,) = HfArgumentParser(ScriptArguments).parse_args_into_dataclasses()
"""
REST = """
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments
from helpers import adjust


def main(args):
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B")
    tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-1.7B")
    rows = load_dataset("json", data_files="rows.jsonl", split="train")
    rows = rows.map(lambda row: tokenizer(row["text"], truncation=True, max_length=LENGTH))
    training = TrainingArguments("out", per_device_train_batch_size=ROWS)
    Trainer(model, training, DataCollatorForLanguageModeling(tokenizer, mlm=False), rows).train()


CHANGE
main(args)
"""
HELPERS = "def adjust(config):\n    config.batch_size = 16\n    return config\n"
GIVEN = "--max_seq_length 1024 --batch_size 2 --gradient_checkpointing --use_lora --lora_r 64"
PARSERS = pytest.mark.parametrize("parser", [ARGPARSE, DATACLASS], ids=["argparse", "dataclass"])


@pytest.fixture
def plan(tmp_path):
    def read(parser=ARGPARSE, change="", length="args.max_seq_length", rows="args.batch_size"):
        text = parser + REST.replace("CHANGE", change).replace("LENGTH", length)
        helpers = HELPERS if "adjust" in change else "def adjust(config):\n    return config\n"
        files = {"train.py": text.replace("ROWS", rows), "helpers.py": helpers}
        return plan_of(tmp_path, f"python train.py {GIVEN}", files)

    return read


@PARSERS
def test_a_flag_that_is_read_nowhere_says_nothing(plan, parser):
    """Layers were checkpointed and an adapter trained by name alone: a silent fit."""
    read = plan(parser)

    assert read.activation_checkpointing == "none" and read.adapter is None
    assert (read.seq_len, read.micro_batch_size) == (1024, 2)


@PARSERS
@pytest.mark.parametrize(
    "change",
    [
        "print(args)",
        "for name, value in vars(args).items():\n    print(name, value)",
        "import wandb\nwandb.init(project='p', config=vars(args))",
        "import json\njson.dump(vars(args), open('args.json', 'w'))",
        "args.seed = 4",
    ],
    ids=["print", "loop", "wandb", "json", "other"],
)
def test_showing_all_options_reads_none_of_them(plan, parser, change):
    assert plan(parser, change).adapter is None


@pytest.mark.parametrize(
    "change",
    [
        "from somewhere import run\nrun(args)",
        "from somewhere import Config\nConfig(**vars(args))",
        "model_of(getattr(args, NAME))",
        "if getattr(args, 'use_lora', False):\n    add_adapter()",
        "config = dict(vars(args))\nif config['use_lora']:\n    add_adapter()",
    ],
    ids=["whole", "keywords", "by a name", "getattr", "key"],
)
def test_a_flag_that_may_be_read_counts(plan, change):
    assert plan(change=change).adapter is not None


CHANGES = {
    "helper": "adjust(args)",
    "helper, given back": "args = adjust(args)",
    "condition": "if args.lora_r > 1:\n    args.batch_size = 16\nelse:\n    args.batch_size = 8",
    "times": "args.batch_size *= 2",
    "setattr": "setattr(args, 'batch_size', 16)",
    "vars": "vars(args)['batch_size'] = 16",
    "dict": "args.__dict__.update({'batch_size': 16})",
    "keyword": "vars(args).update(batch_size=16)",
    "file": "import json\nargs.__dict__.update(json.load(open('more.json')))",
}


@PARSERS
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_flag_that_is_changed_says_nothing_more(plan, parser, change):
    """The rows of the command line stood for those that it was set to: half of the truth, or an eighth."""
    assert plan(parser, change).micro_batch_size in (None, 16)


def test_a_copy_with_another_value_is_another(plan):
    replaced = plan(DATACLASS, "args = replace(args, batch_size=16)")
    merged = plan(change="args = argparse.Namespace(**{**vars(args), 'batch_size': 16})")

    assert {replaced.micro_batch_size, merged.micro_batch_size} <= {None, 16}


@pytest.mark.parametrize(
    "change",
    [
        "args.batch_size = int(args.batch_size)",
        "args.batch_size = args.batch_size or 8",
        "args.batch_size = min(args.batch_size, 64)",
        "if args.batch_size is None:\n    args.batch_size = 8",
    ],
)
def test_what_stays_as_it_was_is_said(plan, change):
    assert plan(change=change).micro_batch_size == 2


def test_what_is_set_only_where_nothing_is_said_is_said(plan):
    """The object comes back from a method that nobody reads, so that what the test asks of is not known either."""
    text = """\
class Rows:
    def __init__(self, args, backend):
        self.args = args

    def get(self):
        return self.args


def cut(rows):
    args = rows.get()
    if args.batch_size is None:
        args.batch_size = tokens_of(args)


for backend in backends():
    cut(Rows(args, backend))
"""
    other = text.replace("args.batch_size is None", "args.batch_size is not None")

    assert plan(change=text).micro_batch_size == 2
    assert plan(change=other).micro_batch_size is None


def test_a_flag_that_reaches_no_arguments_says_nothing_of_what_they_decide(plan):
    """Flags of the names, which the script uses elsewhere: its TrainingArguments are made without them."""
    change = "print(args.batch_size, args.gradient_checkpointing)"
    read = plan(change=change, rows="6")

    assert (read.micro_batch_size, read.activation_checkpointing) == (6, "none")


def test_a_key_of_a_file_that_nothing_reads_says_nothing(tmp_path):
    """`lora_r` in a file of settings made an adapter of a script that has none."""
    parser = "import yaml\nfrom types import SimpleNamespace\nargs = SimpleNamespace(**yaml.safe_load(open('a.yaml')))\n"
    text = parser + REST.replace("LENGTH", "args.length").replace("ROWS", "args.rows").replace("CHANGE", "")  # fmt: skip
    files = {"train.py": text, "helpers.py": HELPERS, "a.yaml": "length: 512\nrows: 2\nlora_r: 16\nuse_lora: true\n"}  # fmt: skip
    read = plan_of(tmp_path, "python train.py a.yaml", files)

    assert read.adapter is None and "adapter" not in opens(read)
    assert (read.seq_len, read.micro_batch_size) == (512, 2)


@pytest.mark.parametrize(
    ("method", "field"),
    [
        ("get_train_dataloader", "micro_batch_size"),
        ("create_optimizer", "optimizer"),
    ],
)
def test_a_flag_says_nothing_of_what_a_trainer_of_ones_own_makes(tmp_path, method, field):
    """The flag of that name counted, which the loader of the script's own never asks for."""
    text = ARGPARSE + REST.replace("LENGTH", "512").replace("ROWS", "args.batch_size")
    own = (
        f"class Own(Trainer):\n    def {method}(self):\n        return make(self, 4)\n\n\ndef main"
    )
    text = text.replace("def main", own).replace("    Trainer(model", "    Own(model").replace("CHANGE", "")  # fmt: skip
    flag = "--optim adafactor" if field == "optimizer" else ""
    parser = 'parser.add_argument("--optim")\nargs ='
    files = {"train.py": text.replace("args =", parser, 1) + "print(args.optim)\n", "helpers.py": HELPERS}  # fmt: skip
    plan = plan_of(tmp_path, f"python train.py {GIVEN} {flag}", files)

    assert getattr(plan, field) is None or field in opens(plan)


def test_a_trainer_of_trls_cuts_at_its_own_length(tmp_path):
    """A short `model_max_length` of the tokenizer, by name or set on it, was the length of every row."""
    script = """\
import argparse
from datasets import load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

parser = argparse.ArgumentParser()
parser.add_argument("--model_max_length", type=int, default=256)
args = parser.parse_args()
tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen3-1.7B", model_max_length=args.model_max_length)
tokenizer.model_max_length = args.model_max_length
rows = load_dataset("json", data_files="rows.jsonl", split="train")
trainer = SFTTrainer("Qwen/Qwen3-1.7B", args=SFTConfig("out"LENGTH), train_dataset=rows, processing_class=tokenizer)
trainer.train()
"""
    lengths = {
        said: plan_of(
            tmp_path,
            "python train.py --model_max_length 128",
            {"train.py": script.replace("LENGTH", said)},
        ).seq_len
        for said in ("", ", max_length=args.model_max_length")
    }

    assert [*lengths.values()] == [1024, 128]


COMMANDS = {
    "fire": ("import fire", "", "fire.Fire(train)", ""),
    "fire, by a name": ("import fire", "", 'fire.Fire({"train": train, "test": print})', "train "),
    "typer": ("import typer", "", "typer.run(train)", ""),
    "click": (
        "import click",
        """@click.command()
@click.option("--rows_at_once", default=4)
@click.option("--use_lora", is_flag=True)
@click.option("--batch_size", default=1)
""",
        "train()",
        "",
    ),
}


@pytest.mark.parametrize("is_read", [False, True], ids=["unread", "read"])
@pytest.mark.parametrize(
    ("imported", "decorators", "call", "word"), COMMANDS.values(), ids=COMMANDS
)
def test_a_parameter_that_its_function_never_names_says_nothing(
    tmp_path, imported, decorators, call, word, is_read
):
    """`--use_lora` made an adapter, and `--batch_size` the rows, of functions that do nothing with them."""
    text = f"""{imported}
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments


{decorators}def train(rows_at_once: int = 4, use_lora: bool = False, batch_size: int = 1):
    model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-1.7B")
    training = TrainingArguments("out", per_device_train_batch_size=rows_at_once)
    {"if use_lora: adapt(model)" if is_read else "pass"}
    Trainer(model, training, train_dataset=rows).train()


if __name__ == "__main__":
    {call}
"""
    command = f"python train.py {word}--rows_at_once 8 --use_lora --batch_size 2"
    plan = plan_of(tmp_path, command, {"train.py": text})

    assert plan.micro_batch_size == 8
    assert (plan.adapter is not None) is is_read

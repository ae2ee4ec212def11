"""A training script is read, not run: what it sets, where, and what stays unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.plugins import load_plugins
from preflight.rewriting import write_draft

ARGPARSE = """\
import argparse
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, Trainer, TrainingArguments
from peft import LoraConfig, get_peft_model

LENGTH = 2 * 1024

def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bs", type=int, default=4)
    parser.add_argument("--base", default="meta-llama/Llama-2-7b-hf")
    parser.add_argument("--use-lora", action="store_true")
    parser.add_argument("--rank", type=int, default=16)
    return parser.parse_args()

def main():
    args = parse()
    bnb = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                             bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(args.base, torch_dtype=torch.bfloat16,
                                                 quantization_config=bnb)
    tokenizer.model_max_length = LENGTH
    if args.use_lora:
        config = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, target_modules=["q_proj"])
        model = get_peft_model(model, config)
    training = TrainingArguments(
        output_dir="out",
        per_device_train_batch_size=args.bs,
        gradient_accumulation_steps=64 // args.bs,
        bf16=True,
        optim=pick(),
    )
    training.gradient_checkpointing = True
    Trainer(model, training).train()

if __name__ == "__main__":
    main()
"""


def read(folder: Path, script: str, *words: str, **files: str) -> LaunchPlan:
    (folder / "train.py").write_text(script)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    argv = ("accelerate", "launch", "--num_processes", "1", "train.py", *words)
    plan = load_plugins().first(
        "preflight_read_launch", command=LaunchCommand(argv, {}, str(folder))
    )
    assert isinstance(plan, LaunchPlan)
    return plan


def where(plan: LaunchPlan, name: str) -> str:
    return plan.origins[name].where


def test_arguments_are_followed_through_argparse_and_functions(tmp_path):
    plan = read(tmp_path, ARGPARSE, "--bs", "2", "--use-lora")

    assert (plan.micro_batch_size, where(plan, "micro_batch_size")) == (2, "--bs")
    assert plan.gradient_accumulation_steps == 32
    assert where(plan, "gradient_accumulation_steps") == "train.py:29"
    assert (plan.model, where(plan, "model")) == ("meta-llama/Llama-2-7b-hf", "train.py:11")
    assert (plan.seq_len, where(plan, "seq_len")) == (2048, "train.py:22")
    assert (plan.load_dtype, plan.mixed_precision) == ("bf16", "bf16")
    assert plan.activation_checkpointing == "full"
    assert where(plan, "activation_checkpointing") == "train.py:33"
    assert plan.adapter is not None
    assert (plan.adapter.rank, plan.adapter.alpha, plan.adapter.targets) == (16, 32, ("q_proj",))
    assert plan.base_quantization is not None
    assert (plan.base_quantization.scheme, plan.base_quantization.compute_dtype) == ("nf4", "bf16")


def test_a_branch_that_is_not_taken_is_not_read(tmp_path):
    assert read(tmp_path, ARGPARSE).adapter is None


def test_what_only_running_tells_is_said_and_not_guessed(tmp_path):
    plan = read(tmp_path, ARGPARSE.replace("=args.bs,", "=free_memory() // 2,"))
    said = {problem.where: problem for problem in plan.notices if problem.id == "PF121"}

    assert plan.micro_batch_size is None
    assert said["train.py:28"].fix == "say it with --set micro_batch_size=VALUE"
    assert "optimizer" in said["train.py:31"].message
    assert plan.origins["optimizer"].assumed


def test_a_dataclass_gives_defaults_that_flags_beat(tmp_path):
    script = """\
from dataclasses import dataclass, field
from typing import Optional
import transformers

@dataclass
class ModelArguments:
    model_name_or_path: Optional[str] = field(default="facebook/opt-125m")

@dataclass
class TrainingArguments(transformers.TrainingArguments):
    optim: str = field(default="adafactor")
    model_max_length: int = field(default=512, metadata={"help": "cut here"})

def train():
    parser = transformers.HfArgumentParser((ModelArguments, TrainingArguments))
    model_args, training_args = parser.parse_args_into_dataclasses()
    model = transformers.AutoModelForCausalLM.from_pretrained(model_args.model_name_or_path)
    transformers.Trainer(model=model, args=training_args).train()
    print(training_args.model_max_length)

train()
"""
    plan = read(tmp_path, script, "--per_device_train_batch_size", "4")
    assert (plan.model, where(plan, "model")) == ("facebook/opt-125m", "train.py:7")
    assert (plan.seq_len, where(plan, "seq_len")) == (512, "train.py:12")
    assert (plan.optimizer, where(plan, "optimizer")) == ("adafactor", "train.py:11")
    assert plan.micro_batch_size == 4
    plan = read(tmp_path, script, "--model_max_length", "64", "--optim", "sgd")
    assert (plan.seq_len, plan.optimizer) == (64, "sgd")


def test_arguments_under_another_name_and_changed_in_part_are_read(tmp_path):
    script = """\
from dataclasses import dataclass
import torch
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer
from transformers import TrainingArguments as HFTrainingArguments

@dataclass
class TrainingArguments(HFTrainingArguments):
    disable_flash: bool = False
    left_out: str = "a"
    hidden: int = 1

(training_args,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
training_args.left_out += "b"
dtype = torch.float16 if training_args.fp16 else (torch.bfloat16 if training_args.bf16 else None)
attention = "sdpa" if training_args.disable_flash else "flash_attention_2"
model = AutoModelForCausalLM.from_pretrained(
    "facebook/opt-125m", torch_dtype=dtype, attn_implementation=attention
)
{more}
Trainer(model=model, args=training_args).train()
"""
    flags = ("--fp16", "False", "--bf16", "True", "--per_device_train_batch_size", "2")
    plan = read(tmp_path, script.format(more=""), *flags)
    assert (plan.load_dtype, plan.attention) == ("bf16", "flash_attention_2")
    changed = script.format(more="").replace('left_out += "b"', "disable_flash |= ask()")
    assert "attention" in read(tmp_path, changed, *flags).script_facts.unread


def test_one_level_of_local_imports_is_followed(tmp_path):
    script = """\
from settings import BATCH, get_args
from transformers import Trainer, TrainingArguments
args = get_args()
Trainer(None, TrainingArguments("o", per_device_train_batch_size=BATCH, max_grad_norm=args.clip))
"""
    settings = """\
import argparse
BATCH = 3
def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--clip", type=float, default=0.5)
    return parser.parse_args()
"""
    plan = read(tmp_path, script, settings=settings)

    assert plan.micro_batch_size == 3
    assert (plan.max_grad_norm, where(plan, "max_grad_norm")) == (0.5, "settings.py:5")


@pytest.mark.parametrize(
    "entry",
    [
        "import fire\ndef main(bs=6, model='gpt2'):\n{body}\nfire.Fire(main)\n",
        "import tyro\ndef main(bs: int = 6, model: str = 'gpt2'):\n{body}\ntyro.cli(main)\n",
        "import typer\ndef main(bs: int = typer.Option(6), model: str = 'gpt2'):\n{body}\ntyper.run(main)\n",
        "import click\n@click.command()\n@click.option('--bs', default=6)\n"
        "@click.option('--model', default='gpt2')\ndef main(bs, model):\n{body}\nmain()\n",
        "import click\ndef train(*, bs, model):\n{body}\n@click.command()\n@click.option('--bs', default=6)\n"
        "@click.option('--model', default='gpt2')\ndef main(**told):\n    train(**told)\nmain()\n",
    ],
)
def test_other_command_line_interfaces(tmp_path, entry):
    body = (
        "    from transformers import Trainer, TrainingArguments, AutoModelForCausalLM\n"
        "    m = AutoModelForCausalLM.from_pretrained(model)\n"
        "    Trainer(m, TrainingArguments('o', per_device_train_batch_size=bs)).train()"
    )
    script = entry.replace("{body}", body)

    plan = read(tmp_path, script)
    assert (plan.micro_batch_size, plan.model) == (6, "gpt2")
    plan = read(tmp_path, script, "--bs", "3")
    assert (plan.micro_batch_size, where(plan, "micro_batch_size")) == (3, "--bs")


def test_a_class_of_arguments_that_stands_under_main_is_read(tmp_path):
    script = """\
from dataclasses import asdict, dataclass
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
def run(told):
    model = AutoModelForCausalLM.from_pretrained(told['start'])
    Trainer(model, TrainingArguments('o', per_device_train_batch_size=told['rows'])).train()
if __name__ == '__main__':
    @dataclass
    class Told:
        start: str = 'gpt2'
        rows: int = 5
    (told,) = HfArgumentParser(Told).parse_args_into_dataclasses()
    run(asdict(told))
"""
    plan = read(tmp_path, script)
    assert (plan.model, plan.micro_batch_size) == ("gpt2", 5)
    plan = read(tmp_path, script, "--rows", "3")
    assert (plan.micro_batch_size, where(plan, "micro_batch_size")) == (3, "--rows")


@pytest.mark.parametrize(
    ("option", "model"),
    [
        ("'--wide', is_flag=True", "gpt2"),
        ("'--wide/--narrow'", "gpt2"),
        ("'--wide', type=int", "gpt2-medium"),
        ("'--wide', is_flag=True, default=True", "gpt2-xl"),
        ("'--wide', type=int, required=True", None),
        ("'--wide', type=int, envvar='WIDE'", None),
        ("'--wide', is_flag=ASKED", None),
    ],
)
def test_an_option_of_click_without_a_default_is_false_or_none(tmp_path, option, model):
    script = f"""\
import click
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
@click.command()
@click.option({option})
@click.option('--rows', default=2)
def main(rows, **more):
    run(rows, **more)
def run(rows, wide):
    name = 'gpt2-xl' if wide else ('gpt2-medium' if wide is None else 'gpt2')
    model = AutoModelForCausalLM.from_pretrained(name)
    Trainer(model, TrainingArguments('o', per_device_train_batch_size=rows)).train()
main()
"""
    plan = read(tmp_path, script)

    assert (plan.micro_batch_size, plan.model) == (2, model)


def test_a_plain_loop_says_its_batch_length_and_optimizer(tmp_path):
    script = """\
import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer
accelerator = Accelerator(mixed_precision="bf16", gradient_accumulation_steps=4)
model = AutoModelForCausalLM.from_pretrained("gpt2", dtype=torch.float32)
batch = tokenizer(text, truncation=True, max_length=256)
loader = torch.utils.data.DataLoader(train_set, batch_size=5, shuffle=True)
check = torch.utils.data.DataLoader(valid_set, batch_size=50)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
model.gradient_checkpointing_enable()
"""
    plan = read(tmp_path, script)

    assert (plan.micro_batch_size, plan.seq_len, plan.gradient_accumulation_steps) == (5, 256, 4)
    assert (plan.optimizer, plan.mixed_precision) == ("adamw_torch_fused", "bf16")
    assert (plan.load_dtype, plan.activation_checkpointing) == ("fp32", "full")
    assert where(plan, "micro_batch_size") == "train.py:7"


def test_an_fsdp_plugin_of_the_script_decides_the_engine(tmp_path):
    script = """\
from accelerate import Accelerator, FullyShardedDataParallelPlugin
plugin = FullyShardedDataParallelPlugin(fsdp_version=2, reshard_after_forward=False,
                                        auto_wrap_policy="transformer_based_wrap")
accelerator = Accelerator(fsdp_plugin=plugin, mixed_precision="bf16")
"""
    (tmp_path / "train.py").write_text(script)
    argv = ("accelerate", "launch", "--multi_gpu", "--num_processes", "4", "train.py")
    plan = load_plugins().first(
        "preflight_read_launch", command=LaunchCommand(argv, {}, str(tmp_path))
    )

    assert (plan.engine, plan.shard_degree, plan.reshard_after_forward) == ("fsdp2", 4, False)
    assert where(plan, "engine") == "train.py:2"
    assert plan.mixed_precision == "bf16"


def test_a_remedy_is_written_through_the_flag_of_the_script(tmp_path):
    script = ARGPARSE.replace("64 // args.bs", "args.accumulate").replace(
        "    return parser",
        '    parser.add_argument("--accumulate", type=int, default=1)\n    return parser',
    )
    before = read(tmp_path, script, "--bs", "4")
    after = before.with_edits({"micro_batch_size": 1, "gradient_accumulation_steps": 4})
    rewrite = write_draft(before, after, load_plugins())

    assert rewrite is not None
    assert rewrite.argv[5:] == ("--bs", "1", "--accumulate", "4")


def test_a_value_that_the_script_fixes_cannot_be_written(tmp_path):
    before = read(tmp_path, ARGPARSE.replace("=args.bs,", "=4,").replace("64 // args.bs", "1"))
    after = before.with_edits({"micro_batch_size": 1, "gradient_accumulation_steps": 4})

    assert write_draft(before, after, load_plugins()) is None


SETTINGS = """\
from dataclasses import dataclass
from transformers import HfArgumentParser, Trainer, TrainingArguments
@dataclass
class Settings:
    batch: int = 8
    steps: int = 1
settings = {made}
Trainer(None, TrainingArguments("o", per_device_train_batch_size=settings.batch,
                                gradient_accumulation_steps=settings.steps)).train()
"""


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (
            "HfArgumentParser(Settings).parse_args_into_dataclasses()[0]",
            ("--batch", "2", "--steps", "4"),
        ),
        ("Settings()", None),
    ],
)
def test_a_default_of_a_dataclass_is_written_where_a_parser_fills_it(made, written, tmp_path):
    before = read(tmp_path, SETTINGS.format(made=made))
    after = before.with_edits({"micro_batch_size": 2, "gradient_accumulation_steps": 4})
    rewrite = write_draft(before, after, load_plugins())

    assert (before.micro_batch_size, where(before, "micro_batch_size")) == (8, "train.py:5")
    assert (None if rewrite is None else rewrite.argv[5:]) == written


@pytest.mark.parametrize(
    "text",
    [
        "TrainingArguments(\n",
        "x = x\nTrainingArguments(a=x)\n",
        "TrainingArguments(b=10**10**10)\n",
        "def f(): return f()\nTrainingArguments(per_device_train_batch_size=f())\n",
        "TrainingArguments(**g(), per_device_train_batch_size='a' * 10**12)\n",
        "\0TrainingArguments(",
    ],
)
def test_odd_scripts_end_in_a_plan(tmp_path, text):
    assert read(tmp_path, text).launcher == "accelerate"

"""An argument that only running a script tells contradicts no DeepSpeed config: its default is not taken for it."""

from __future__ import annotations

import argparse

import pytest
from launch_of_script import plan_of

from preflight.errors import BadInput

SCRIPT = """\
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

def arguments_of(given):
    return TrainingArguments({keywords})

model = AutoModelForCausalLM.from_pretrained("gpt2")
Trainer(model=model, args=arguments_of(read()), train_dataset=rows).train()
"""
DEEPSPEED = """{
 "bf16": {"enabled": true}, "zero_optimization": {"stage": 3}, "gradient_clipping": 0.5,
 "train_micro_batch_size_per_gpu": 3, "optimizer": {"type": "AdamW", "params": {"lr": 1e-5}}
}"""
CONFIG = "distributed_type: DEEPSPEED\ndeepspeed_config: {deepspeed_config_file: ds.json}\nnum_processes: 8\n"
AGREES = "bf16=True, max_grad_norm=0.5, per_device_train_batch_size=3, learning_rate=1e-5"


def read(tmp_path, keywords, flags=""):
    files = {
        "train.py": SCRIPT.format(keywords=keywords),
        "ds.json": DEEPSPEED,
        "accelerate.yaml": CONFIG,
    }
    return plan_of(tmp_path, f"accelerate launch --config_file accelerate.yaml train.py{flags}", files)  # fmt: skip


@pytest.mark.parametrize(
    "keywords",
    [
        "**given",
        "output_dir='o', **dict(given)",
        AGREES,
        AGREES.replace("bf16=True", "bf16=torch.cuda.is_bf16_supported()"),
        AGREES.replace("1e-5", "given['rate']"),
        AGREES.replace("0.5", "given.clip"),
        AGREES.replace("=3", "=len(given)"),
        f"{AGREES.partition(',')[2]}, **given",
    ],
)
def test_what_is_not_told_contradicts_nothing(keywords, tmp_path):
    plan = read(tmp_path, keywords)

    assert plan.engine == "zero3" and plan.mixed_precision == "bf16"


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        (AGREES.partition(", ")[2], "bf16"),
        (AGREES.replace("max_grad_norm=0.5, ", ""), "max_grad_norm"),
        (f"{AGREES.replace('1e-5', '2e-5')}, seed=given.seed", "learning_rate"),
        (f"{AGREES.replace('1e-5', '2e-5')}, **given", "learning_rate"),
    ],
)
def test_what_is_told_or_left_out_is_held_against_the_config(keywords, named, tmp_path):
    with pytest.raises(BadInput) as refused:
        read(tmp_path, keywords)

    (problem,) = (each for each in refused.value.problems if each.severity == "error")
    assert problem.id == "PF303" and f"the trainer's {named} is" in problem.message


@pytest.mark.parametrize(
    "words", ["-b4", "-b 4", "-b=4", "--batch_size 4", "--batch 4", "-g -b4", "-gb4", "-gb 4", "-g"]
)
def test_an_option_of_one_letter_may_have_its_value_behind_it(tmp_path, words):
    """`-b4` was no option that anybody had, and the batch the parser's default; argparse says what each of them is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-b", "--batch_size", type=int, default=2)
    parser.add_argument("-g", "--grow", action="store_true")
    text = """
import argparse
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
parser = argparse.ArgumentParser()
parser.add_argument("-b", "--batch_size", type=int, default=2)
parser.add_argument("-g", "--grow", action="store_true")
told = parser.parse_args()
args = TrainingArguments("out", per_device_train_batch_size=told.batch_size)
Trainer(model=AutoModelForCausalLM.from_pretrained("gpt2"), args=args).train()
"""
    plan = plan_of(tmp_path, f"torchrun t.py {words}", {"t.py": text})

    assert plan.micro_batch_size == parser.parse_args(words.split()).batch_size


EVALUATING = SCRIPT.replace(
    "train_dataset=rows", "train_dataset=rows, eval_dataset={rows}"
).replace("{keywords}", "{{keywords}}")


@pytest.mark.parametrize(
    ("keywords", "rows", "may_be"),
    [
        ("**given", "rows", (8, 64)),
        ("per_device_eval_batch_size=2, **given", "rows", (2,)),
        ("eval_strategy='no', **given", "rows", ()),
        ("**given", "None", ()),
        ("output_dir='o'", "rows", ()),
    ],
)
def test_arguments_that_are_not_told_may_evaluate_what_a_trainer_is_given_for_it(
    keywords, rows, may_be, tmp_path
):
    text = EVALUATING.format(rows=rows).format(keywords=keywords)
    plan = plan_of(tmp_path, "python train.py", {"train.py": text})
    origin = plan.origins.get("eval_micro_batch_size")

    assert plan.eval_micro_batch_size is None
    assert (() if origin is None else origin.may_be) == may_be

"""A word whose value only a shell knows is no mistake of the launch: what it decides is open."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.errors import BadInput

SCRIPT = """\
from dataclasses import dataclass
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Model:
    name: str = "gpt2"

model_args, args = HfArgumentParser((Model, TrainingArguments)).parse_args_into_dataclasses()
{more}
model = AutoModelForCausalLM.from_pretrained(model_args.name, torch_dtype=torch.bfloat16)
Trainer(model=model, args=args, train_dataset=rows).train()
"""


def read(tmp_path, words, more="", script=None):
    text = SCRIPT.format(more=more) if script is None else script
    command = f"torchrun --nproc_per_node 8 train.py --output_dir out {words}"
    return plan_of(tmp_path, command, {"train.py": text})


@pytest.mark.parametrize("word", ["$((BATCH/8))", "$BATCH", "${BATCH}", "$(cat)"])
def test_a_count_that_only_a_shell_knows_is_missing(tmp_path, word):
    plan = read(tmp_path, f"--per_device_train_batch_size {word}")

    assert plan.micro_batch_size is None
    assert any(word in notice.where or "shell" in notice.message for notice in plan.notices)


def test_a_switch_that_only_a_shell_knows_is_open(tmp_path):
    plan = read(tmp_path, "--per_device_train_batch_size 2 --gradient_checkpointing $SAVES")

    assert plan.micro_batch_size == 2 and "activation_checkpointing" in opens(plan)


def test_what_the_script_sets_itself_is_known(tmp_path):
    plan = read(
        tmp_path,
        "--per_device_train_batch_size $BATCH",
        "args.per_device_train_batch_size = 4",
    )

    assert plan.micro_batch_size == 4


def test_what_decides_nothing_is_left_alone(tmp_path):
    plan = read(tmp_path, "--per_device_train_batch_size 2 --logging_steps $EVERY")

    assert plan.micro_batch_size == 2 and not opens(plan) - {"versions"}


def test_another_word_stays_a_mistake(tmp_path):
    with pytest.raises(BadInput, match="whole number"):
        read(tmp_path, "--per_device_train_batch_size two")

"""Variables that a script sets in its own environment count as if they stood in front of the command."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.unpriced_names import ON_CPU, REPLICAS

SCRIPT = """\
import os
{variables}
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B", dtype="bfloat16")
tokenizer(rows, max_length=512, truncation=True)
told = TrainingArguments(output_dir="o", per_device_train_batch_size=2, bf16=True)
Trainer(model=model, args=told, train_dataset=rows).train()
"""


@pytest.fixture
def plan(tmp_path):
    def read(variables: str, command: str = "torchrun --nproc_per_node 4 train.py"):
        return plan_of(tmp_path, command, {"train.py": SCRIPT.format(variables=variables)})

    return read


def test_variables_of_accelerate_say_the_engine(plan):
    on = 'os.environ["ACCELERATE_USE_FSDP"] = "true"\nos.environ["FSDP_VERSION"] = "2"'
    assert plan("").engine == "ddp"
    assert plan(on).engine == "fsdp2"


@pytest.mark.parametrize(
    "variables",
    [
        'os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"',
        'if asked():\n    os.environ["ACCELERATE_USE_FSDP"] = "true"',
        'os.environ["ACCELERATE_USE_FSDP"] = str(asked())',
    ],
)
def test_an_engine_that_they_may_turn_on_is_open(plan, variables):
    assert "engine" in opens(plan(variables))
    assert "engine" not in opens(plan('os.environ["TOKENIZERS_PARALLELISM"] = "true"'))


def test_the_allocator_is_told_by_them(plan):
    said = plan('os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"')
    assert said.expandable_segments
    assert said.origins["expandable_segments"].where == "train.py:2"


@pytest.mark.parametrize(
    ("devices", "names"),
    [("0,1", {REPLICAS}), ("3", set()), ("", {ON_CPU}), ("-1", {ON_CPU})],
)
def test_one_process_sees_what_they_show(plan, devices, names):
    found = plan(f'os.environ["CUDA_VISIBLE_DEVICES"] = "{devices}"', "python train.py")
    assert {notice.unpriced for notice in found.notices} & {REPLICAS, ON_CPU} == names

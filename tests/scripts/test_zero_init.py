"""Whether ZeRO-3 partitions a model as it is made: only where DeepSpeed is told of before, and what it costs where not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from launch_of_script import opens, plan_of
from some_plugins import plugins_of

from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import Level, Moment
from preflight.models import describe

ACCELERATOR = "accelerator = Accelerator()\n"
LOADED = 'model = AutoModelForCausalLM.from_pretrained("gpt2")\n'
LOOP = "accelerator.backward(model(rows).loss)\n"
IMPORTS = "from accelerate import Accelerator\nfrom transformers import *\nimport deepspeed\n"
CONFIG = "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 3}\nnum_processes: 8\n"
LINE = "accelerate launch --config_file zero3.yaml train.py"
ARGUMENTS = 'args = TrainingArguments(output_dir="o")\n'
TRAINER = "Trainer(model=model, args=args).train()\n"
MODEL = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 256, "dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.libraries
def test_the_order_is_what_decides_on_a_real_rank(ranks):
    printed = ranks.printed(Path(__file__).with_name("zero3_order.py"), world=1)

    assert printed.splitlines()[-1] == "False True"


@pytest.mark.parametrize(
    ("text", "is_partitioned"),
    [
        (ACCELERATOR + LOADED + LOOP, True),
        (LOADED + ACCELERATOR + LOOP, False),
        ("if here:\n    " + ACCELERATOR + LOADED + LOOP, None),
        (f"with deepspeed.zero.Init():\n    {LOADED}{ACCELERATOR}{LOOP}", True),
        (f"if here:\n    deepspeed.zero.Init()\n{LOADED}{ACCELERATOR}{LOOP}", None),
        ("model = build()\n" + ACCELERATOR + LOOP, None),
        (ARGUMENTS + LOADED + TRAINER, True),
        (LOADED + ARGUMENTS + TRAINER, False),
        (ARGUMENTS + "model = build()\n" + TRAINER, None),
        ('args = SFTConfig()\nSFTTrainer(model="gpt2", args=args).train()\n', True),
        (
            f"if small:\n    model_class = LlamaForCausalLM\nelse:\n    model_class = AutoModel\n"
            f"{LOADED.replace('AutoModelForCausalLM', 'model_class')}{ACCELERATOR}{LOOP}",
            False,
        ),
    ],
)
def test_a_model_is_partitioned_where_deepspeed_is_told_of_before(text, is_partitioned, tmp_path):
    files = {"train.py": IMPORTS + "from trl import *\n" + text, "zero3.yaml": CONFIG}
    plan = plan_of(tmp_path, LINE, files)
    said = None if "zero_init" in opens(plan) else plan.zero_init

    assert said is is_partitioned


def test_no_other_engine_asks(tmp_path):
    files = {"train.py": (IMPORTS + LOADED + ACCELERATOR + LOOP).replace("import deepspeed\n", "")}
    plan = plan_of(tmp_path, "accelerate launch --num_processes 8 --multi_gpu train.py", files)

    assert plan.zero_init is None
    assert "zero_init" not in plan.origins


def held_before_training(plan: LaunchPlan) -> int:
    hooks = plugins_of("memory_")
    described = describe(MODEL, "tiny", "test")
    terms = estimate_memory(plan, described, None, hooks).terms_at(Moment.PREPARE)
    return sum(term.num_bytes for term in terms if term.level is Level.ALLOCATED)


@pytest.mark.parametrize("trainer", ["plain_loop", "transformers"])
def test_a_model_that_is_made_too_early_is_whole_on_every_gpu(trainer, tmp_path):
    files = {"train.py": IMPORTS + LOADED + ACCELERATOR + LOOP, "zero3.yaml": CONFIG}
    plan = replace(plan_of(tmp_path, LINE, files), trainer=trainer, seq_len=64, micro_batch_size=1)
    whole, divided = (held_before_training(replace(plan, zero_init=each)) for each in (False, True))
    num_params = describe(MODEL, "tiny", "test").num_params

    assert whole - divided > num_params

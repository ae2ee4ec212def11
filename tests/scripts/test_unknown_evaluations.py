"""Evaluations that only running tells of, under every name that transformers has had for what asks for them."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.render.readings import cannot_tell
from preflight.request import Request
from preflight.values import replace

SCRIPT = """\
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling, Trainer, TrainingArguments

tokenizer = AutoTokenizer.from_pretrained("Qwen/Qwen2.5-1.5B")
model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-1.5B", torch_dtype="bfloat16")
data = load_dataset("somebody/rows").map(lambda row: tokenizer(row["text"], truncation=True, max_length=2048))
has_test = "test" in data
arguments = TrainingArguments("out", per_device_train_batch_size=2, bf16=True, SAID)
Trainer(
    model,
    arguments,
    train_dataset=data["train"],
    eval_dataset=data["test"] if has_test else None,
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
).train()
"""
ROWS = "per_device_eval_batch_size=64, "


def plan_saying(folder, said: str):
    return plan_of(folder, "python train.py", {"train.py": SCRIPT.replace("SAID", said)})


@pytest.mark.parametrize(
    "said",
    [
        ROWS + "eval_strategy='epoch' if has_test else 'no'",
        ROWS + "evaluation_strategy='epoch' if has_test else 'no'",
        ROWS + "do_eval=has_test",
        ROWS + "eval_on_start=has_test",
        "eval_strategy='epoch', per_gpu_eval_batch_size=int(sys.argv[1])",
    ],
)
def test_what_only_running_tells_of_an_evaluation_is_open(tmp_path, said):
    """`evaluation_strategy` was looked for by its new name alone, and 64 rows of 2,048 tokens were said to fit."""
    plan = plan_saying(tmp_path, said)

    assert "eval_micro_batch_size" in opens(plan)


@pytest.mark.parametrize(
    ("said", "rows"),
    [
        (ROWS + "evaluation_strategy='epoch'", 64),
        (ROWS + "evaluation_strategy='no'", None),
        (ROWS + "do_eval=False", None),
    ],
)
def test_what_is_said_of_an_evaluation_is_not_open(tmp_path, said, rows):
    plan = plan_saying(tmp_path, said)

    assert plan.eval_micro_batch_size == rows
    assert "eval_micro_batch_size" not in opens(plan)


def test_a_report_asks_whether_there_is_an_evaluation(tmp_path):
    """It called none `the default`, and named no `--set` for it."""
    plan = plan_saying(tmp_path, ROWS + "eval_strategy='epoch' if has_test else 'no'")

    said = cannot_tell(check_plan(replace(plan, device="h100-sxm-80"), load_plugins(), Request()))

    assert "if eval_micro_batch_size is none" in said
    assert "--set eval_micro_batch_size=null|64 says which" in said

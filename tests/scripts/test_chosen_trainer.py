"""Scripts that have several trainers: the one that a command line leads to has its rules, and the others have none."""

from __future__ import annotations

import pytest
from launch_of_script import plan_of

SCRIPT = """\
from dataclasses import dataclass, field

from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer


@dataclass
class Task:
    task: str = field(default="plain")
    model: str = field(default="gpt2")


def make(task, args):
    model = AutoModelForCausalLM.from_pretrained(task.model)
    if task.task == "pairs":
        return DPOTrainer(model, None, args=args, train_dataset=rows)
    elif task.task == "rows":
        return SFTTrainer(model, args=args, train_dataset=rows)
    return Trainer(model=model, args=args, train_dataset=rows)


if __name__ == "__main__":
    task, args = HfArgumentParser((Task, TrainingArguments)).parse_args_into_dataclasses()
    make(task, args).train()
"""


@pytest.mark.parametrize(
    ("flags", "trainer", "objective"),
    [
        ("", "transformers", None),
        ("--task plain", "transformers", None),
        ("--task rows", "trl", "sft"),
        ("--task pairs", "trl", "dpo"),
    ],
)
def test_the_trainer_that_the_command_line_leads_to(tmp_path, flags, trainer, objective):
    plan = plan_of(tmp_path, f"torchrun train.py --output_dir out {flags}", {"train.py": SCRIPT})
    assert (plan.trainer, plan.objective) == (trainer, objective)
    assert not [problem for problem in plan.notices if "several trainers" in problem.unpriced]


def test_where_only_running_tells_it_is_one_of_several(tmp_path):
    script = SCRIPT.replace('task.task == "pairs"', "ready(task)").replace(
        'task.task == "rows"', "done(task)"
    )
    plan = plan_of(tmp_path, "torchrun train.py --output_dir out", {"train.py": script})
    assert any(problem.unpriced for problem in plan.notices)

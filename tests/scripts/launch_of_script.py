"""A plan of a launch of a script that a test writes, with the files beside it."""

from __future__ import annotations

from pathlib import Path

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.plugins import load_plugins

TRAINS = """\
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

def run(name, rows, tokens):
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModelForCausalLM.from_pretrained(name)
    cut = lambda row: tokenizer(row["text"], truncation=True, max_length=tokens)
    args = TrainingArguments("out", per_device_train_batch_size=rows)
    Trainer(model=model, args=args, train_dataset=load_dataset("rows")["train"].map(cut)).train()
"""
"""A function that trains a model by its name on so many rows of so many tokens, with what it imports."""


def plan_of(
    folder: Path, command: str, files: dict[str, str], env: dict[str, str] | None = None
) -> LaunchPlan:
    """Return the plan of a command line, in a folder of these files and in an environment."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    launch = LaunchCommand(tuple(command.split()), env or {}, str(folder))
    plan = load_plugins().first("preflight_read_launch", command=launch)
    assert isinstance(plan, LaunchPlan)
    return plan


def opens(plan: LaunchPlan) -> set[str]:
    """Return the fields of a plan whose value only running tells."""
    return {name for name, origin in plan.origins.items() if origin.may_be}

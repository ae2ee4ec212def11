"""The trainer's own arguments as checks ask for them, and which trainer it is."""

from __future__ import annotations

from typing import Any

from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.values import dataclass


@dataclass(frozen=True)
class Argument:
    """One argument of the trainer."""

    value: Any
    where: str = ""
    """The flag, or the file and line; empty for a default."""
    is_given: bool = False

    @property
    def is_on(self) -> bool:
        return self.value is True


NOT_THERE = Argument(None)


def argument(plan: LaunchPlan, name: str) -> Argument:
    """Return an argument of the trainer, its library's default where nobody gave it; a value of None if unknown."""
    setting = plan.trainer_facts.arguments.get(name)
    if setting is None:
        return NOT_THERE
    is_given = setting.place.kind != "default"
    return Argument(setting.value, setting.place.where if is_given else "", is_given)


def where_of(plan: LaunchPlan, *fields: str) -> str:
    """Return where the first plan field that somebody gave comes from."""
    for name in fields:
        origin = plan.origins.get(name)
        if origin is not None and not origin.assumed:
            return origin.where
    return ""


def method_of(plan: LaunchPlan) -> str | None:
    """Return which of TRL's trainers surely runs with arguments of its own class: sft, dpo, grpo, ...

    None for any other trainer, and for one of the script's own that is given other arguments.
    """
    if plan.trainer != "trl":
        return None
    method = plan.trainer_facts.method or "sft"
    name = TRL_NAMES.get(method, method.upper())
    trains, reads = f"trl.{name}Trainer", f"trl.{name}Config"
    # SFT's trainer makes its own arguments of plain TrainingArguments (trl/trainer/sft_trainer.py:654, 1.16.0).
    wanted = {trains} if method == "sft" else {trains, reads}
    classes = plan.trainer_facts.classes
    return method if classes is None or wanted <= classes else None


def checks_groups(plan: LaunchPlan) -> str | None:
    """Return grpo or rloo where that method's own class surely reads the arguments, whoever trains with them."""
    method = plan.trainer_facts.method if plan.trainer == "trl" else None
    classes = plan.trainer_facts.classes
    if method not in ("grpo", "rloo"):
        return None
    return method if classes is None or f"trl.{TRL_NAMES[method]}Config" in classes else None


def has_trainer(plan: LaunchPlan) -> bool:
    """Tell whether transformers' Trainer, or TRL's on top of it, surely trains with the arguments that were read."""
    classes = plan.trainer_facts.classes
    return plan.trainer in HF_TRAINERS and (classes is None or any(map(_is_trainers, classes)))


def _is_trainers(name: str) -> bool:
    return name.endswith(("Trainer", "TrainingArguments")) or name in _CONFIGS


TRL_NAMES = {
    "sft": "SFT",
    "dpo": "DPO",
    "grpo": "GRPO",
    "kto": "KTO",
    "rloo": "RLOO",
    "reward": "Reward",
    "distillation": "Distillation",
}
"""Method -> the beginning of the names of its trainer and its arguments."""
_CONFIGS = frozenset(f"trl.{name}Config" for name in TRL_NAMES.values())

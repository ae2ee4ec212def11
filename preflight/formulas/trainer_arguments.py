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
    """Return which of TRL's trainers it is (sft, dpo, grpo, ...); None for any other trainer."""
    if plan.trainer != "trl":
        return None
    return plan.trainer_facts.method or "sft"


def has_trainer(plan: LaunchPlan) -> bool:
    """Tell whether transformers' Trainer, or TRL's on top of it, trains."""
    return plan.trainer in HF_TRAINERS

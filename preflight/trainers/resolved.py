"""The Trainer's arguments with their defaults, as TrainingArguments.__post_init__ resolves them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from preflight.setting import Place, Setting
from preflight.trainers.fields import PlanFields
from preflight.trainers.lookup import Given

if TYPE_CHECKING:
    from preflight.scripts.settings.script_settings import ScriptSettings


def not_told(script: ScriptSettings | None, unread: Collection[str]) -> Collection[str] | None:
    """Return the arguments that a script sets to what only running tells; None where that may be any of them."""
    return None if script is not None and "open_arguments" in script.seen else unread


def resolved_arguments(
    given: Given, fields: PlanFields, not_told: Collection[str] | None
) -> dict[str, Setting]:
    """Return every argument of the Trainer that is known; none where the script has no Trainer."""
    if not given.has_trainer:
        return {}
    arguments: dict[str, Setting] = {}
    if not fields.script.builds_arguments and not_told is not None:
        place = Place("default", "", given.library)
        for name, argument in given.table.arguments.items():
            arguments[name] = Setting(argument.default, place)
        for name, plan_field, value in (
            ("bf16", "mixed_precision", "bf16"),
            ("fp16", "mixed_precision", "fp16"),
        ):
            default, _ = fields.defaults.get(plan_field, (None, None))
            arguments[name] = Setting(default == value, place)
        arguments["optim"] = Setting(given.versions.default_optimizer(), place)
        for name in not_told:
            arguments.pop(name, None)
    arguments.update(
        (name, setting)
        for name, setting in given.known.items()
        if setting.value is not None or name not in arguments
    )
    if "eval_strategy" not in given.known:
        # Its name before transformers 4.41; a release that has dropped it stops at it, which is said elsewhere.
        evaluates = given.find("eval_strategy").value.setting
        if evaluates is not None:
            arguments["eval_strategy"] = evaluates
    checkpointing = fields.settings.get("activation_checkpointing")
    if checkpointing is not None or "activation_checkpointing" in arguments:
        default, _ = fields.defaults.get("activation_checkpointing", ("none", None))
        value = checkpointing.value if checkpointing is not None else default
        place = (
            checkpointing.place
            if checkpointing is not None
            else arguments["activation_checkpointing"].place
        )
        for name in ("activation_checkpointing", "gradient_checkpointing"):
            arguments[name] = Setting(value != "none", place)
    return arguments

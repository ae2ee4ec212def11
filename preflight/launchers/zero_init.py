"""Whether ZeRO-3 partitions a model as it is made, or every rank holds the whole of it before: what decides is the script."""

from __future__ import annotations

from preflight.engines.settings import EngineSettings
from preflight.launch import SCRIPT_DECIDES, Origin
from preflight.plan_choices import OPEN_VALUES
from preflight.trainers.arguments import TrainerArguments

ZERO3 = "zero3"


def zero_init_of(
    trainer: TrainerArguments, engine: EngineSettings, origin: Origin | None
) -> tuple[bool, Origin] | None:
    """Return what a launch that is, or may be, ZeRO-3's does while its model loads; None where nobody asks, or where the
    trainer itself makes the model, after its arguments.

    `origin` is the engine's.
    """
    told, script = engine.fields.get("engine"), trainer.script
    may_be = () if origin is None else origin.may_be
    if script.is_of_library or not ((told and told.value == ZERO3) or ZERO3 in may_be):
        return None
    if script.zero_init is None:
        reason = "whether DeepSpeed is told of before the model is made is known only when the script runs"
        return True, Origin(SCRIPT_DECIDES, True, reason, OPEN_VALUES["zero_init"])
    return script.zero_init, Origin(script.model_at.where if script.model_at else SCRIPT_DECIDES)

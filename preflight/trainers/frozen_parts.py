"""Which parts of a vision-language model a launch is told not to train: by the flags of its script (scripts/arguments/trainer_spellings.py),
or by statements in it (scripts/settings/frozen_statements.py)."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.bool_words import STRTOBOOL
from preflight.launch import Vision
from preflight.plan_parts import FREEZABLE, LANGUAGE_MODEL, PROJECTOR, TOWER
from preflight.scripts.arguments.trainer_spellings import FREEZES, TUNES, TUNES_PROJECTOR_ALONE
from preflight.setting import Setting
from preflight.trainers.arguments import TrainerArguments
from preflight.values import dataclass


@dataclass(frozen=True)
class FrozenParts:
    """What the flags of a script leave as it is."""

    vision: Vision
    flag: Setting
    """The first that says so."""
    may_be: tuple[Vision, ...]
    """What else they may mean."""


def frozen_parts(trainer: TrainerArguments) -> FrozenParts | None:
    """Return what the flags of a launch freeze; None where there is none.

    They freeze a part's own weights, as an adapter does anyway: where that goes is for its targets to say. Where those
    are known only when the script runs, it may leave the parts that are frozen alone, all but the language model.
    """
    found = {part: Setting(False, place) for part, place in trainer.script.frozen.items()}
    found.update(frozen_by_flags(trainer.raw))
    built = trainer.script.tower
    may_train = built is not None and TOWER not in found
    if built is not None:
        found.setdefault(TOWER, built.flag)
    if not found:
        return None
    flag = next(iter(found.values()))
    vision = Vision(frozen=tuple(part for part in FREEZABLE if part in found))
    seeing = Vision(frozen=tuple(part for part in vision.frozen if part != LANGUAGE_MODEL))
    is_open = "adapter" in trainer.script.unread or any(map(unfreezes, trainer.raw.items()))
    if not has_adapter(trainer):
        others = (Vision(), seeing) if is_open else ()
        if may_train:  # the code of many copies has a switch for it
            others = (Vision(tuple(part for part in vision.frozen if part != TOWER)), *others)
        return FrozenParts(vision, flag, others)
    if built is not None:
        # an adapter that is made before the tower is on the language model alone; its projector is among what it saves
        return FrozenParts(Vision((TOWER, PROJECTOR)), flag, (Vision(),))
    return FrozenParts(Vision(), flag, (seeing,) if is_open and seeing.frozen else ())


def has_adapter(trainer: TrainerArguments) -> bool:
    """Tell whether a launch trains an adapter."""
    adapter = trainer.settings.get("adapter")
    return adapter is not None and adapter.value is not None


def unfreezes(argument: tuple[str, Setting]) -> bool:
    """Tell whether a flag makes some of what others freeze train again: `unfreeze_vit_layers`, `unfreeze_topk_llm`."""
    name, setting = argument
    word = "" if setting.value is None else str(setting.value).lower()
    return name.startswith("unfreeze") and word not in ("", "0", "false", "none")


def frozen_by_flags(arguments: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the parts that flags freeze, each with the flag that does."""
    found: dict[str, Setting] = {}
    for names, freezes in ((FREEZES, True), (TUNES, False)):
        for name, part in names.items():
            setting = arguments.get(name)
            if setting is not None and STRTOBOOL.read(setting.value) is freezes:
                found.setdefault(part, setting)
    alone = arguments.get(TUNES_PROJECTOR_ALONE)
    if alone is not None and trains_projector_alone(arguments):
        found.setdefault(TOWER, alone)
        found.setdefault(LANGUAGE_MODEL, alone)
    return found


def trains_projector_alone(arguments: Mapping[str, Setting]) -> bool:
    """Tell whether a launch is LLaVA's first stage."""
    alone = arguments.get(TUNES_PROJECTOR_ALONE)
    return alone is not None and STRTOBOOL.read(alone.value) is True

"""Variables of this shell that look as if they chose an engine and do not, or choose one unseen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.setting import Setting

_CALLED = {"fsdp": "FSDP", "zero": "DeepSpeed"}


def environment_notes(
    env: Mapping[str, Setting], engine: str, changes_mode: bool = False
) -> Iterator[Problem]:
    """Yield what ACCELERATE_USE_* of the caller does; `changes_mode` where the launcher has a mode of its own.

    Where something else turns the same engine on, nothing is lost: with the trainer's own --fsdp, people set the
    variable for transformers' loader, which takes `1` too (is_fsdp_enabled, transformers/integrations/fsdp.py).
    """
    for name, family in (("ACCELERATE_USE_FSDP", "fsdp"), ("ACCELERATE_USE_DEEPSPEED", "zero")):
        setting = env.get(name)
        if setting is None or setting.place.kind != "env":
            continue
        if not changes_mode and engine.startswith(family):
            continue
        text = str(setting.value).lower()
        if text == "true" and changes_mode:
            yield Problem(
                f"${name} is set in this shell and changes the mode of the launch",
                f"${name}",
                f"unset {name}, or say it in the config file",
                "PF116",
                "warning",
            )
        elif text != "true" and STRTOBOOL.read(text) is True:
            yield Problem(
                f"${name}={setting.value} does not turn {_CALLED[family]} on: accelerate takes the word true only",
                f"${name}",
                f"{name}=true",
                "PF116",
                "warning",
            )

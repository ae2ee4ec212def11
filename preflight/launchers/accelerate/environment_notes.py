"""Variables of this shell that look as if they chose an engine and do not, or choose one unseen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.setting import Setting


def environment_notes(env: Mapping[str, Setting], changes_mode: bool = False) -> Iterator[Problem]:
    """Yield what ACCELERATE_USE_* of the caller does; `changes_mode` where the launcher has a mode of its own."""
    for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        setting = env.get(name)
        if setting is None or setting.place.kind != "env":
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
                f"${name}={setting.value} has no effect: accelerate takes the word true only",
                f"${name}",
                f"{name}=true",
                "PF116",
                "warning",
            )

"""Variables of accelerate that a script sets, and those that its plugins of FSDP and DeepSpeed stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preflight.setting import Setting
from preflight.shell.starters.plugin_variables import deepspeed_variable, fsdp_variable

if TYPE_CHECKING:
    from preflight.scripts.settings.script_settings import Said, ScriptSettings


def plugin_environment(script: ScriptSettings) -> dict[str, Setting]:
    """Return a script's own variables, and the plugin of FSDP or DeepSpeed that it makes as those that it stands for.

    A plugin handed to Accelerator turns its engine on whatever launches it (accelerate/accelerator.py, 1.15).
    """
    environment = dict(script.environment)
    if "fsdp_plugin" in script.seen:
        environment["ACCELERATE_USE_FSDP"] = Setting("true", script.seen["fsdp_plugin"])
        for name, said in script.fsdp_plugin.items():
            environment |= _as_variable(fsdp_variable(name), said)
    if script.deepspeed_plugin is not None:
        environment["ACCELERATE_USE_DEEPSPEED"] = Setting("true", script.seen["deepspeed_plugin"])
        for name, said in script.deepspeed_plugin.items():
            environment |= _as_variable(deepspeed_variable(name) or "", said)
    return environment


def _as_variable(name: str, said: Said) -> dict[str, Setting]:
    value = said.value
    if isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    if isinstance(value, dict):  # a config in place of a file's path
        return {name: Setting(value, said.place)}
    return {name: Setting(str(value), said.place)} if isinstance(value, (str, int, float)) else {}

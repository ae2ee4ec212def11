"""What LLaMA-Factory asks of the engine while it builds the model: ranks, ZeRO's stage, FSDP's version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import is_on, num_visible_devices
from preflight.values import dataclass


@dataclass(frozen=True)
class EngineFacts:
    """What the framework's own rules look at."""

    is_distributed: bool
    num_devices: int | None
    """GPUs that one process sees; None where the machine that starts the ranks has others than this one."""
    zero_stage: int | None = None
    """None without DeepSpeed, and where its config cannot be read yet."""
    fsdp_version: int | None = None
    """Under accelerate's FSDP alone: the trainer's own `fsdp` is not looked at."""

    @property
    def is_zero3(self) -> bool:
        return self.zero_stage == 3


def read_engine_facts(
    keys: FrameworkKeys, part: LauncherPart, command: LaunchCommand
) -> EngineFacts:
    """Return the facts of a launch, before its engine is read."""
    stage, version = None, None
    config: Any = keys.value("deepspeed")
    if config is None and is_on(part.env, "ACCELERATE_USE_DEEPSPEED"):
        given = part.env.get("ACCELERATE_DEEPSPEED_CONFIG_FILE")
        config = None if given is None or given.value == "none" else given.value
        of_launcher = part.env.get("ACCELERATE_DEEPSPEED_ZERO_STAGE")
        if config is None and of_launcher is not None and str(of_launcher.value).isdigit():
            stage = int(of_launcher.value)
    if config is not None:
        stage = _stage(config, command)
    if is_on(part.env, "ACCELERATE_USE_FSDP"):
        # FSDP_VERSION is 1 where nothing says it (prepare_model_for_training).
        given = part.env.get("FSDP_VERSION")
        version = 2 if given is not None and str(given.value) == "2" else 1
    is_open = "world_size" in part.origins and bool(part.origins["world_size"].may_be)
    devices = None if is_open else num_visible_devices(command.env)
    return EngineFacts(part.is_distributed, devices, stage, version)


def _stage(config: Any, command: LaunchCommand) -> int | None:
    if isinstance(config, str):
        try:
            config = read_document(command, config, "json").value
        except BadInput:
            return None  # said when the engine is read
    section = config.get("zero_optimization") if isinstance(config, Mapping) else None
    stage = section.get("stage", 0) if isinstance(section, Mapping) else 0
    return stage if isinstance(stage, int) else None

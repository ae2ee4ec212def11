"""Every option of `accelerate launch` as the launcher holds it when it starts workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.launchers.accelerate.config import AccelerateConfig
from preflight.setting import Place, Setting
from preflight.values import dataclass

MODE_FLAGS = ("multi_gpu", "tpu", "tpu_use_cluster", "use_deepspeed", "use_fsdp", "use_megatron_lm")
"""Any of these on the command line keeps the config file's distributed_type from being applied."""


@dataclass(frozen=True)
class LauncherSettings:
    """Every option as the launcher holds it when it starts workers."""

    values: Mapping[str, Setting]
    config: AccelerateConfig | None
    mode: str
    """deepspeed, fsdp, megatron, multi_gpu, tpu or single."""
    mode_place: Place
    precision_from_config: bool
    uses_parallelism_config: bool
    num_visible_devices: int | None
    """GPUs that this machine or CUDA_VISIBLE_DEVICES shows; only looked up where the launcher needs it."""

    def value(self, key: str) -> Any:
        setting = self.values.get(key)
        return None if setting is None else setting.value

    def place(self, key: str) -> Place:
        setting = self.values.get(key)
        return Place("default", "", "accelerate") if setting is None else setting.place

    def where(self, key: str) -> str:
        return self.place(key).where

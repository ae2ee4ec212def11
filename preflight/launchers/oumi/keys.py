"""The keys of oumi's TrainingConfig with their defaults, from the shipped table."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from preflight.launchers.framework_keys import FrameworkKeys
from preflight.near_names import nearest_fix
from preflight.own_tables import table_beside
from preflight.setting import Setting

ANY = ".*"
SIZES = (
    "reduce_bucket_size", "allgather_bucket_size", "sub_group_size", "stage3_max_live_parameters", "stage3_max_reuse_distance",
)  # fmt: skip
KEYS: Mapping[str, str] = {
    "activation_checkpointing": "training.enable_gradient_checkpointing",
    "adapter": "training.use_peft",
    "adapter.alpha": "peft.lora_alpha",
    "adapter.dropout": "peft.lora_dropout",
    "adapter.rank": "peft.lora_r",
    "adapter.targets": "peft.lora_target_modules",
    "attention": "model.attn_implementation",
    **{f"deepspeed.{name}": f"deepspeed.{name}" for name in SIZES},
    "engine": "deepspeed.zero_stage",
    "eval_micro_batch_size": "training.per_device_eval_batch_size",
    "generation.memory_share": "training.grpo.vllm_gpu_memory_utilization",
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "loss": "model.enable_liger_kernel",
    "micro_batch_size": "training.per_device_train_batch_size",
    "offload_params": "fsdp.cpu_offload",
    "optimizer": "training.optimizer",
    "reshard_after_forward": "fsdp.sharding_strategy",
    "seq_len": "model.model_max_length",
}
"""Plan field, or part of one -> the key that it is read from and written to."""


_table = partial(table_beside, __file__, "keys.json")


def oumi_version() -> str:
    """Return the release that the shipped table was made from."""
    version: str = _table()["version"]
    return version


def or_default(keys: FrameworkKeys, name: str) -> Setting:
    """Return what is said of a key, where null is None and no default (OmegaConf), else oumi's default."""
    said = keys.given.get(name)
    if said is not None and said.value is None:
        return said
    return keys.get(name) or keys.by_default(_table()["keys"][name])


def check_unknown_keys(keys: FrameworkKeys) -> None:
    """Refuse the keys that TrainingConfig does not have, at which OmegaConf stops; another release may have them."""
    known = _table()["keys"]
    is_tabled = keys.library.is_known and keys.library.version == oumi_version()
    for name, setting in keys.given.items():
        parents = [name[:at] for at, letter in enumerate(name) if letter == "."]
        is_known = name in known or any(
            f"{one}{ANY}" in known or one in known for one in (*parents, name)
        )
        is_section = isinstance(setting.value, dict) and any(
            key.startswith(f"{name}.") for key in known
        )
        if is_known or is_section or "[" in name:
            continue
        severity = "error" if is_tabled else "warning"
        message = f"oumi {oumi_version()} has no key {name}, and stops at it"
        fix = nearest_fix(name, tuple(known))
        keys.refuse(message, setting, fix, severity, key=name.rpartition(".")[2])


def section_of(keys: FrameworkKeys, name: str) -> Setting | None:
    """Return a section that takes any key as one value, with the place of its first; None where nothing is in it."""
    found: dict[str, Any] = {}
    first: Setting | None = None
    for key, setting in keys.given.items():
        if not key.startswith(f"{name}."):
            continue
        first = first or setting
        inside = found
        *sections, last = key[len(name) + 1 :].split(".")
        for one in sections:
            inside = inside.setdefault(one, {})
        inside[last] = setting.value
    return None if first is None else Setting(found, first.place)

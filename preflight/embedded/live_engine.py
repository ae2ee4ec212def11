"""The engine of a live Accelerator, or of the arguments that will make one, in plan values."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

from preflight.launch import DeepSpeedSettings, Origin

ACCELERATOR = Origin("the live Accelerator")
SIZES = (
    "reduce_bucket_size",
    "allgather_bucket_size",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "sub_group_size",
)
"""Keys of `zero_optimization` that count elements, spelled as our fields are."""


def engine_fields(accelerator: Any, args: Any, num_processes: int | None) -> dict[str, Any]:
    """Return the plan fields that the engine decides."""
    if accelerator is not None:
        return _of_accelerator(accelerator)
    world_size = num_processes or _count("WORLD_SIZE") or 1
    deepspeed = getattr(args, "deepspeed", None)
    if isinstance(deepspeed, dict):
        return {**_ranks(world_size), **_deepspeed(deepspeed, world_size)}
    fsdp = getattr(args, "fsdp", None)
    plugin = getattr(args, "fsdp_plugin_args", None) if fsdp else None
    if fsdp:
        version = int((plugin or {}).get("fsdp_version", 1) or 1)
        return {**_ranks(world_size), "engine": f"fsdp{version}", "shard_degree": world_size}
    return {**_ranks(world_size), "engine": "ddp" if world_size > 1 else "single"}


def _of_accelerator(accelerator: Any) -> dict[str, Any]:
    world_size = int(accelerator.num_processes)
    kind = getattr(accelerator.distributed_type, "value", str(accelerator.distributed_type))
    found: dict[str, Any] = _ranks(world_size)
    precision = str(accelerator.mixed_precision)
    if precision in ("bf16", "fp16", "fp8"):
        found["mixed_precision"] = precision
    found["gradient_accumulation_steps"] = int(accelerator.gradient_accumulation_steps)
    if kind == "FSDP":
        return {**found, **_fsdp(accelerator.state.fsdp_plugin, world_size, found)}
    if kind == "DEEPSPEED":
        config = accelerator.state.deepspeed_plugin.deepspeed_config
        return {**found, **_deepspeed(config, world_size)}
    return {**found, "engine": "ddp" if world_size > 1 else "single"}


def _ranks(world_size: int) -> dict[str, Any]:
    per_node = _count("LOCAL_WORLD_SIZE") or world_size
    return {"world_size": world_size, "num_nodes": max(1, -(-world_size // per_node))}


def _count(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) else None


def _fsdp(plugin: Any, world_size: int, ranks: Mapping[str, Any]) -> dict[str, Any]:
    version = int(getattr(plugin, "fsdp_version", 1) or 1)
    found: dict[str, Any] = {"engine": f"fsdp{version}", "shard_degree": world_size}
    reshards = getattr(plugin, "reshard_after_forward", None)
    strategy = str(getattr(getattr(plugin, "sharding_strategy", None), "name", ""))
    if version == 2:
        found["reshard_after_forward"] = True if reshards is None else bool(reshards)
    else:
        found["reshard_after_forward"] = strategy in ("", "FULL_SHARD", "HYBRID_SHARD")
        if strategy == "NO_SHARD":
            found["shard_degree"] = 1
        if strategy.startswith(("HYBRID", "_HYBRID")):
            found["replicate_degree"] = int(ranks["num_nodes"])
            found["shard_degree"] = world_size // int(ranks["num_nodes"])
    offload = getattr(plugin, "cpu_offload", None)
    is_offloaded = getattr(offload, "offload_params", None)
    if is_offloaded is None:
        is_offloaded = type(offload).__name__ == "CPUOffloadPolicy" or offload is True
    if is_offloaded:
        found.update(offload_params="cpu", offload_optimizer="cpu")
    if getattr(plugin, "activation_checkpointing", False):
        found["activation_checkpointing"] = "full"
    saved = str(getattr(getattr(plugin, "state_dict_type", None), "name", ""))
    if saved:
        found["state_dict_type"] = "full" if saved == "FULL_STATE_DICT" else "sharded"
    found["cpu_ram_efficient_loading"] = bool(getattr(plugin, "cpu_ram_efficient_loading", False))
    found["wrap_policy"] = _wrap_policy(plugin)
    return found


def _wrap_policy(plugin: Any) -> str:
    policy = getattr(plugin, "auto_wrap_policy", None)
    policy = getattr(policy, "func", policy)
    name = str(getattr(policy, "__name__", policy or ""))
    if "transformer" in name:
        return "transformer"
    return "size" if "size" in name else "none"


def _deepspeed(config: Mapping[str, Any], world_size: int) -> dict[str, Any]:
    zero = config.get("zero_optimization") or {}
    stage = zero.get("stage", 0)
    stage = stage if stage in (0, 1, 2, 3) else 0
    found: dict[str, Any] = {"engine": f"zero{stage}"}
    if stage:
        found["shard_degree"] = world_size
    for name, field in (
        ("offload_optimizer", "offload_optimizer"),
        ("offload_param", "offload_params"),
    ):
        device = (zero.get(name) or {}).get("device")
        if device in ("cpu", "nvme") and stage and (name == "offload_optimizer" or stage == 3):
            found[field] = device
    for block in ("bf16", "fp16"):
        if (config.get(block) or {}).get("enabled") is True:
            found["mixed_precision"] = block
    names = {f.name for f in fields_of(DeepSpeedSettings)}
    sizes: dict[str, Any] = {}
    for name in SIZES:
        value = zero.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            sizes[name] = int(value)
        elif value == "auto":
            sizes[name] = None  # from the model's hidden size, as a reader leaves it
    for name in (
        "overlap_comm",
        "contiguous_gradients",
        "memory_efficient_linear",
        "stage3_gather_16bit_weights_on_model_save",
    ):
        if isinstance(zero.get(name), bool):
            sizes[name] = zero[name]
    found["deepspeed"] = DeepSpeedSettings(**{k: v for k, v in sizes.items() if k in names})
    return found

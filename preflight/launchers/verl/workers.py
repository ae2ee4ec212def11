"""What verl's FSDP workers are: sharding, dtypes, adapter and checkpointing, alike in both of its trainers.

Source: workers/fsdp_workers.py _build_model_optimizer and trainer/fsdp_sft_trainer.py of verl 0.2 to 0.7.
"""

from __future__ import annotations

from typing import Any

from preflight.launch import Adapter
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.setting import Place, Setting
from preflight.versions.boundary import release

DTYPES = {
    **dict.fromkeys(("32", "fp32", "float32"), "fp32"),
    **dict.fromkeys(("16", "fp16", "float16"), "fp16"),
    **dict.fromkeys(("bf16", "bfloat16"), "bf16"),
}
"""verl/utils/torch_dtypes.py, 0.2.0 to 0.7.1: a number as well as a name."""


def read_sharding(
    keys: FrameworkKeys, strategy: Setting | None, default: str, size_name: str, ranks: int
) -> None:
    """Set FSDP up: parameters sharded in the dtype that they are loaded in, gathered in bf16, gradients summed in fp32."""
    word = default if strategy is None else str(strategy.value)
    word = "fsdp" if word == "dp" else word
    at = strategy or Setting(word, Place("default", "", keys.library.label))
    if word not in ("fsdp", "fsdp2"):
        message = f"the strategy {word!r} is not read: its workers are estimated as those of fsdp2"
        keys.leave_out(NotModelled(message, f"workers of verl's {word}", "either"), at)
        word = "fsdp2"
    size = keys.get(size_name)
    if size is not None and isinstance(size.value, int) and 0 < size.value < ranks:
        message = "ranks are estimated to share one copy of the parameters, whatever fsdp_size says"
        keys.leave_out(
            NotModelled(message, f"copies in groups of {size.value} ranks", "more"), size
        )
    values = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2" if word == "fsdp2" else "1",
        "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
        "FSDP_USE_ORIG_PARAMS": "false",
        "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT",
    }
    if word == "fsdp2":
        values["FSDP_RESHARD_AFTER_FORWARD"] = "true"
    else:  # torch's own default, where accelerate's is none (fsdp_workers.py calls FSDP without it, 0.2.0 to 0.9.1)
        values["FSDP_BACKWARD_PREFETCH"] = "BACKWARD_PRE"
    for name, value in values.items():
        keys.environment[name] = Setting(value, at.place)
    keys.put("mixed_precision", "bf16", at)
    keys.put("reduce_dtype", "fp32", at)
    keys.put("sync_each_batch", True, at)  # no micro step runs under no_sync


def read_dtype(keys: FrameworkKeys, name: str) -> None:
    """Record the dtype of the weights that are trained."""
    setting = keys.get(name)
    dtype = "fp32" if setting is None else DTYPES.get(str(setting.value))
    if dtype is None and setting is not None:
        keys.refuse(f"{name} must be fp32, bf16 or fp16, not {setting.value!r}", setting)
    elif setting is not None:
        keys.put("load_dtype", dtype, setting)
    else:
        keys.assume("load_dtype", "fp32", f"no {name}")


def read_adapter(keys: FrameworkKeys, above: str) -> None:
    """Record LoRA, which is cast to the dtype of the base."""
    rank, alpha = keys.count(f"{above}.lora_rank", 0), keys.number(f"{above}.lora_alpha")
    targets = keys.get(f"{above}.target_modules")
    dtype = keys.settings.get("load_dtype")
    if rank is None or rank.value < 1:
        if dtype is not None:  # of shards: accelerate's are fp32, verl's as they were loaded
            keys.put("master_dtype", dtype.value, dtype)
        return
    names: Any = "all-linear" if targets is None else targets.value
    adapter = Adapter(
        rank=rank.value,
        alpha=int(alpha.value) if alpha is not None else 16,
        targets=tuple(map(str, names)) if isinstance(names, list) else str(names),
        dtype=None if dtype is None else str(dtype.value),
    )
    keys.put("adapter", adapter, rank, *(s for s in (alpha, targets) if s is not None))


def read_checkpointing(keys: FrameworkKeys, name: str, by_default: bool) -> None:
    """Record what is recomputed, never by a backward of its own."""
    flag = keys.flag(name)
    is_on = by_default if flag is None else bool(flag.value)
    if flag is not None:
        keys.put("activation_checkpointing", "full" if is_on else "none", flag)
    else:
        keys.assume("activation_checkpointing", "full" if is_on else "none", f"no {name}")
    if is_on:
        keys.assume("checkpointing_reentrant", False, "gradient_checkpointing_kwargs of its own")


def is_before(keys: FrameworkKeys, version: str) -> bool:
    """Tell whether the launch is of a release before one."""
    return release(keys.library.version) < release(version)

"""oumi's sections fsdp and deepspeed as the variables and the config that its workers see.

Source: get_accelerate_env_vars and prepare_accelerate_fsdp_run of core/distributed.py, to_deepspeed of
core/configs/params/deepspeed_params.py, of oumi 0.9.
"""

from __future__ import annotations

from typing import Any

from preflight.bool_words import as_word
from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.oumi.keys import KEYS, or_default
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import fsdp_variable

OF_FSDP = (
    "sharding_strategy", "cpu_offload", "mixed_precision", "backward_prefetch", "forward_prefetch", "state_dict_type",
    "auto_wrap_policy", "min_num_params", "transformer_layer_cls", "sync_module_states",
)  # fmt: skip
"""Keys of the section fsdp that reach accelerate, oumi's default of each too."""
OF_ZERO = ("overlap_comm", "contiguous_gradients", "reduce_bucket_size")
OF_ZERO_2 = (
    "allgather_partitions",
    "allgather_bucket_size",
    "reduce_scatter",
    "round_robin_gradients",
)
OF_ZERO_3 = (
    "sub_group_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold", "stage3_max_live_parameters",
    "stage3_max_reuse_distance", "stage3_gather_16bit_weights_on_model_save",
)  # fmt: skip
OF_CONFIG = (
    "train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
    "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
)  # fmt: skip


def read_engine(keys: FrameworkKeys, part: LauncherPart) -> bool:
    """Fill in what the engine is set to; tell whether the trainer checkpoints, as its argument says."""
    fsdp, deepspeed = (keys.is_on(f"{one}.enable_{one}") for one in ("fsdp", "deepspeed"))
    if fsdp and deepspeed:
        at = keys.given["fsdp.enable_fsdp"]
        keys.refuse("oumi takes fsdp or deepspeed, not both", at, "enable_fsdp: false")
    elif deepspeed:
        _deepspeed(keys)
    elif fsdp and part.name != "accelerate":
        _fsdp(keys)  # under accelerate's own launcher its FSDP holds
        return False
    return True


def _fsdp(keys: FrameworkKeys) -> None:
    env = keys.environment
    env["ACCELERATE_USE_FSDP"] = Setting("true", keys.given["fsdp.enable_fsdp"].place)
    env["FSDP_CPU_RAM_EFFICIENT_LOADING"] = Setting("true", env["ACCELERATE_USE_FSDP"].place)
    for name in OF_FSDP:
        said = or_default(keys, f"fsdp.{name}")
        if said.value is not None:
            value = _class_names(said.value) if name == "transformer_layer_cls" else said.value
            is_precision = name == "mixed_precision"
            variable = "ACCELERATE_MIXED_PRECISION" if is_precision else fsdp_variable(name)
            env[variable] = Setting(as_word(value), said.place)
    said = or_default(keys, "fsdp.use_orig_params")
    keeps = not keys.is_on("training.use_peft") or keys.is_on("training.compile")
    env["FSDP_USE_ORIG_PARAMS"] = Setting(
        as_word(keeps if said.value is None else said.value), said.place
    )
    said = or_default(keys, "training.enable_gradient_checkpointing")
    env["FSDP_ACTIVATION_CHECKPOINTING"] = Setting(as_word(said.value), said.place)


def _class_names(value: Any) -> str:
    """Return classes without their modules, as simplify_transformer_layer_cls_string does."""
    return ",".join(name.strip().rpartition(".")[2] for name in str(value).split(","))


def _deepspeed(keys: FrameworkKeys) -> None:
    switch = keys.given["deepspeed.enable_deepspeed"]
    file = keys.get("deepspeed.deepspeed_config_path")
    if file is not None:
        keys.argument("deepspeed", str(file.value), file)
        return
    stage = or_default(keys, KEYS["engine"])
    digit = str(stage.value)[-1:]
    if not digit.isdigit():
        keys.refuse(f"zero_stage must be ZERO_0 to ZERO_3, not {stage.value!r}", stage, "ZERO_2")
        return
    of_stage = OF_ZERO_3 if digit == "3" else OF_ZERO_2
    zero = {name: or_default(keys, f"deepspeed.{name}").value for name in (*OF_ZERO, *of_stage)}
    for name in ("offload_optimizer", "offload_param"):
        if any(key.startswith(f"deepspeed.{name}.") for key in keys.given):
            said = [or_default(keys, f"deepspeed.{name}.{one}") for one in ("device", "pin_memory")]
            zero[name] = {"device": str(said[0].value).lower(), "pin_memory": said[1].value}
    config: dict[str, Any] = {"zero_optimization": {"stage": int(digit), **zero}}
    config.update({name: or_default(keys, f"deepspeed.{name}").value for name in OF_CONFIG})
    precision = keys.get("deepspeed.precision")
    if precision is not None:
        config[str(precision.value).lower()] = {"enabled": "auto"}
    keys.argument("deepspeed", config, switch)

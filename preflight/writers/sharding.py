"""Which ranks hold what, written back: ZeRO's stage, FSDP in DDP's place, wrap policy, shard groups, what is offloaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.writers.draft import LaunchDraft
from preflight.writers.engine import STRATEGY_NUMBERS, set_launcher_option, write_reshard
from preflight.writers.trainer_edits import (
    deepspeed_target,
    is_given,
    nested_target,
    set_argument,
    takes_trainer_flags,
)

SHARDING_FIELDS = (
    "engine", "shard_degree", "replicate_degree", "reshard_after_forward", "wrap_policy", "wrap_min_num_params",
    "state_dict_type", "cpu_ram_efficient_loading",
)  # fmt: skip
STATE_FIELDS = ("master_dtype", "optimizer_state_dtype")
OFFLOAD_FIELDS = ("offload_optimizer", "offload_params")
POLICY = "TRANSFORMER_BASED_WRAP"
STATE_DICTS = {"full": "FULL_STATE_DICT", "sharded": "SHARDED_STATE_DICT"}
WITHIN_NODES = ("HYBRID_SHARD", "HYBRID_SHARD_ZERO2", "4", "5")
"""FSDP1's strategies that copy the shards over nodes, by name and number."""


def write_sharding(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Write engine, shard groups, wrap policy and resharding together: one place may say several of them."""
    if before.engine != after.engine:
        if before.engine == "ddp" and after.engine == "fsdp2":
            _write_fsdp2(draft, before, after)
        else:
            _write_stage(draft, before, after)
        return
    if before.wrap_policy != after.wrap_policy:
        write_wrap_policy(draft, before, after)
    if before.replicate_degree != after.replicate_degree:
        _write_over_all(draft, before, after)
        if before.engine == "fsdp1":
            return  # its strategy says whether it reshards as well
    elif before.shard_degree != after.shard_degree:
        raise CannotEdit("the shard group follows from other settings")
    if before.reshard_after_forward != after.reshard_after_forward:
        write_reshard(draft, before, after)


def _write_stage(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Write another stage of ZeRO."""
    if before.zero_stage is None or after.zero_stage is None:
        raise CannotEdit(f"{before.engine} does not become {after.engine} by a setting")
    _set_zero(draft, "stage", "zero_stage", after.zero_stage)


def _set_zero(draft: LaunchDraft, key: str, option: str, value: Any) -> None:
    """Set a key below zero_optimization in the DeepSpeed JSON, or the launcher's own option for it."""
    target = deepspeed_target(draft)
    if target is not None:
        target.set(draft, f"zero_optimization.{key}", value)
    elif draft.part.has_engine_options:
        set_launcher_option(draft, "deepspeed_config", option, value)
    else:
        raise CannotEdit("the launch has no DeepSpeed config to edit")


def _write_fsdp2(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Turn FSDP2 on in DDP's place: in the launcher where it has options for it, else by the trainer's arguments."""
    if after.wrap_policy != "transformer" or before.trainer not in HF_TRAINERS:
        raise CannotEdit("only a trainer's launch is known to run under both")
    common = {
        "auto_wrap_policy": POLICY,
        "reshard_after_forward": bool(after.reshard_after_forward),
        "state_dict_type": STATE_DICTS[str(after.state_dict_type)],
        "cpu_ram_efficient_loading": bool(after.cpu_ram_efficient_loading),
    }
    offloads = after.offload_params == "cpu"
    if draft.part.has_engine_options:
        options = {f"fsdp_{name}": value for name, value in common.items()}
        if offloads:
            options["fsdp_offload_params"] = True
        _write_launcher_fsdp(draft, {"fsdp_version": 2, **options})
        return
    if not takes_trainer_flags(draft, before) or is_given(draft, ("fsdp", "fsdp_config")):
        raise CannotEdit("the script does not take --fsdp")
    # Trainers that read no policy from their config (DEFAULTS_TO_FSDP2) make a unit of each layer where `auto_wrap` is said, and
    # keep parameters on the host where `offload` is; later ones take both words and read the config.
    words = "full_shard auto_wrap"
    if offloads:
        common["cpu_offload"] = True
        words += " offload"
    set_argument(draft, before, "fsdp", words)
    set_argument(draft, before, "fsdp_config", {"version": 2, **common})


def _write_launcher_fsdp(draft: LaunchDraft, options: Mapping[str, Any]) -> None:
    modes = draft.launcher_flags("multi_gpu")
    path = draft.role("accelerate")
    in_file = path is not None and not draft.part.is_default_config
    for flag in modes:
        draft.replace(flag, [])
    if path is not None and in_file and not modes:
        draft.edit(path, "distributed_type", "FSDP")
        for name, value in options.items():
            draft.edit(path, ("fsdp_config", name), value)
        return
    draft.add_launcher_switch("use_fsdp")
    for name, value in options.items():
        draft.add_launcher_flag(name, value)


def write_wrap_policy(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Wrap the model's decoder layers; classes that the user named stay named."""
    if not before.is_fsdp or after.wrap_policy != "transformer":
        raise CannotEdit("only transformer_based_wrap is written")
    if _of_trainer(draft):
        target = nested_target(draft, "fsdp_config")
        if target is None:
            raise CannotEdit("fsdp without fsdp_config wraps the layers already")
        prefixed = target.has("fsdp_auto_wrap_policy")
        name = "fsdp_auto_wrap_policy" if prefixed else "auto_wrap_policy"
        target.set(draft, name, POLICY)
    else:
        set_launcher_option(draft, "fsdp_config", "fsdp_auto_wrap_policy", POLICY)


def _of_trainer(draft: LaunchDraft) -> bool:
    """Tell whether the trainer's own --fsdp decides, and not the launcher."""
    path = draft.role("trainer")
    in_file = draft.document(path).get(("fsdp",)) if path is not None else None
    return bool(draft.script_flags("fsdp", takes_many=True) or in_file)


def _write_over_all(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Shard over all ranks instead of within groups that hold copies."""
    if after.replicate_degree != 1 or after.shard_degree < before.shard_degree:
        raise CannotEdit("only copies are given up")
    if before.engine == "fsdp2":
        key = "parallelism_config_dp_replicate_size"
        shard = "parallelism_config_dp_shard_size"
        degree = after.shard_degree // before.context_parallel_degree
        set_launcher_option(draft, "parallelism_config", key, 1)
        set_launcher_option(draft, "parallelism_config", shard, degree)
        return
    key = "fsdp_sharding_strategy"
    path = draft.role("accelerate")
    flags = draft.launcher_flags(key)
    section = draft.document(path).get(("fsdp_config",)) if path is not None else None
    stated: Any = flags[-1].value if flags else None
    if not flags and isinstance(section, Mapping):
        stated = section.get(key, section.get("sharding_strategy"))
    if str(stated) not in WITHIN_NODES:
        raise CannotEdit("another place decides the sharding strategy")
    strategy = "FULL_SHARD" if after.reshard_after_forward else "SHARD_GRAD_OP"
    is_number = str(stated).isdecimal()
    value: Any = STRATEGY_NUMBERS[strategy] if is_number else strategy
    set_launcher_option(draft, "fsdp_config", key, value)


def write_offload(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Move optimizer or parameters to the host."""
    if before.engine == "ddp":
        if not after.is_fsdp:
            raise CannotEdit("DDP keeps all states on the device")
        return  # written with the rest of fsdp_config
    changed = {
        name: getattr(after, name) for name in OFFLOAD_FIELDS if _differs(before, after, name)
    }
    if set(changed.values()) != {"cpu"}:
        raise CannotEdit("only offloading to the host is written")
    if before.is_fsdp:
        if "offload_optimizer" in changed:
            raise CannotEdit("FSDP's states live where its parameters do")
        _write_fsdp_offload(draft)
        return
    for name in changed:
        short = "offload_optimizer" if name == "offload_optimizer" else "offload_param"
        _set_zero(draft, f"{short}.device", f"{short}_device", "cpu")


def _differs(before: LaunchPlan, after: LaunchPlan, name: str) -> bool:
    return bool(getattr(before, name) != getattr(after, name))


def _write_fsdp_offload(draft: LaunchDraft) -> None:
    if not _of_trainer(draft):
        set_launcher_option(draft, "fsdp_config", "fsdp_offload_params", True)
        return
    target = nested_target(draft, "fsdp_config")
    if target is None:
        raise CannotEdit("--fsdp without fsdp_config has no key for it")
    target.set(draft, "cpu_offload", True)


def write_states(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Keep ZeRO's masters and states in bf16; DeepSpeed's config alone can say it."""
    target = deepspeed_target(draft)
    if target is None or not before.zero_stage:
        raise CannotEdit("the launch has no DeepSpeed config to edit")
    if {after.master_dtype, after.optimizer_state_dtype} != {"bf16"}:
        raise CannotEdit("only bf16 for both is written")
    target.set(draft, "bf16.bf16_master_weights_and_grads", True)
    target.set(draft, "bf16.bf16_optimizer_states", True)


def write_context_parallel(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Let ranks share sequences: accelerate reads it from its file's parallelism_config."""
    degree = after.context_parallel_degree
    path = draft.role("accelerate")
    if before.context_parallel_degree != 1 or after.engine != "fsdp2" or path is None:
        raise CannotEdit("only accelerate's file says it, under FSDP2")
    if draft.part.is_default_config or draft.launcher_flags("use_fsdp"):
        raise CannotEdit("the config file's parallelism_config would not be read")
    if isinstance(draft.document(path).get(("parallelism_config",)), Mapping):
        raise CannotEdit("the ranks are divided already")
    for name, value in (("cp_size", degree), ("dp_shard_size", after.world_size // degree)):
        draft.edit(path, ("parallelism_config", f"parallelism_config_{name}"), value)

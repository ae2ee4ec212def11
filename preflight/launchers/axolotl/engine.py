"""axolotl's FSDP, DeepSpeed and parallelism keys as the variables and arguments that its workers see.

Source: setup_fsdp_envs, setup_parallelism_envs and setup_deepspeed_env of axolotl 0.19.0
(utils/trainer.py), check_fsdp_* of utils/schemas/validation.py, and _process_fsdp_args of transformers.
Offloading reaches accelerate through the environment, the rest through the trainer's fsdp_config.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.bool_words import as_word
from preflight.formats.document import Document
from preflight.launchers.axolotl.keys import axolotl_table
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled, nested_settings
from preflight.near_names import nearest_fix
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import fsdp_variable

FSDP_KEYS = (
    "activation_checkpointing", "offload_params", "cpu_ram_efficient_loading", "state_dict_type", "auto_wrap_policy",
    "transformer_layer_cls_to_wrap", "min_num_params", "reshard_after_forward",
)  # fmt: skip
FSDP_DEFAULTS = {
    # what TrainingArguments hands to the plugin where fsdp_config is silent (transformers 5.24)
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_BACKWARD_PREFETCH": "NO_PREFETCH",
}
PARALLELISM = {
    "tensor_parallel_size": "PARALLELISM_CONFIG_TP_SIZE",
    "dp_shard_size": "PARALLELISM_CONFIG_DP_SHARD_SIZE",
    "dp_replicate_size": "PARALLELISM_CONFIG_DP_REPLICATE_SIZE",
    "context_parallel_size": "PARALLELISM_CONFIG_CP_SIZE",
}
NOT_IN_SCHEMA = {
    "version": "",
    "forward_prefetch": "nothing is prefetched",
    "backward_prefetch": "transformers takes NO_PREFETCH",
    "limit_all_gathers": "accelerate takes true",
    "sharding_strategy": "accelerate takes FULL_SHARD",
    "xla": "it is for TPUs",
}
"""Keys of fsdp_config that older versions read -> what holds without them; `version` alone is still read."""
FSDP1_ONLY = ("shard_grad_op", "no_shard", "hybrid_shard", "hybrid_shard_zero2")


def read_axolotl_engine(
    keys: FrameworkKeys, document: Document, overrides: Mapping[str, Setting]
) -> None:
    """Fill in the variables and the arguments that decide the engine; `overrides` is what the command line says."""
    section, words = keys.get("fsdp_config"), keys.get("fsdp")
    deepspeed = keys.get("deepspeed")
    fsdp = next((s for s in (section, words) if s is not None and s.value), None)
    if fsdp is not None and deepspeed is not None and deepspeed.value:
        keys.refuse("deepspeed and fsdp cannot be used together", fsdp, "remove one of them")
    elif deepspeed is not None and deepspeed.value:
        keys.argument("deepspeed", deepspeed.value, deepspeed)
    elif fsdp is not None:
        if section is None or not section.value:
            keys.refuse(
                "fsdp without fsdp_config: axolotl reads its settings there and stops",
                fsdp,
                "fsdp_version: 2 and fsdp_config",
            )
        given = nested_settings(section, document) if section is not None else {}
        for key, setting in overrides.items():
            if key.startswith("fsdp_config."):
                given[key.partition(".")[2]] = setting
        _fsdp(keys, fsdp, given, words)
    _parallelism(keys)


def _fsdp(
    keys: FrameworkKeys, at: Setting, given: Mapping[str, Setting], words: Setting | None
) -> None:
    env = keys.environment
    env["ACCELERATE_USE_FSDP"] = Setting("true", at.place)
    bare = _without_prefix(keys, given)
    version = keys.get("fsdp_version") or bare.get("fsdp_version") or bare.get("version")
    if version is None:
        version = keys.by_default(1)
    env["FSDP_VERSION"] = Setting(str(version.value), version.place)
    is_v2 = str(version.value) == "2"
    for variable, value in FSDP_DEFAULTS.items():
        env[variable] = Setting(value, Place("default", "", "transformers"))
    if words is not None:
        _old_words(keys, words, is_v2)
    for name in FSDP_KEYS:
        found = bare.get(name)
        if found is None or found.value is None or (name == "reshard_after_forward" and not is_v2):
            continue
        env[fsdp_variable(name)] = Setting(as_word(found.value), found.place)
    least = bare.get("min_num_params")
    policy = bare.get("auto_wrap_policy")
    if policy is not None and policy.value == "SIZE_BASED_WRAP" and least is None:
        keys.refuse(
            "auto_wrap_policy: SIZE_BASED_WRAP needs min_num_params",
            policy,
            "auto_wrap_policy: TRANSFORMER_BASED_WRAP",
        )


def _without_prefix(keys: FrameworkKeys, given: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the section's keys without `fsdp_` in front, as the schema takes them."""
    known = tuple(axolotl_table()["fsdp_keys"])
    bare: dict[str, Setting] = {}
    for name, setting in given.items():
        is_prefixed = name.startswith("fsdp_") and name != "fsdp_version"
        short = name.removeprefix("fsdp_") if is_prefixed else name
        if short in bare:
            keys.note(
                "PF103",
                f"{short} is given with and without fsdp_ in front; the last one counts",
                setting,
            )
        bare[short] = setting
        if short not in known and short not in NOT_IN_SCHEMA:
            keys.note(
                "PF140",
                f"axolotl ignores the key {name!r} in fsdp_config",
                setting,
                nearest_fix(short, known) or "remove it",
            )
        elif short in NOT_IN_SCHEMA and short != "version":
            message = f"axolotl's schema drops {name}: {NOT_IN_SCHEMA[short]}"
            keys.note("PF140", message, setting, "remove it", "info")
    return bare


def _old_words(keys: FrameworkKeys, words: Setting, is_v2: bool) -> None:
    """Read `fsdp: [full_shard, auto_wrap, offload]`, the old way to say how FSDP shards."""
    env = keys.environment
    items = words.value if isinstance(words.value, list) else str(words.value).split()
    for item in items:
        word = str(item).lower()
        if word == "offload":
            env["FSDP_OFFLOAD_PARAMS"] = Setting("true", words.place)
        elif word in ("full_shard", "shard_grad_op") and is_v2:
            reshards = "true" if word == "full_shard" else "false"
            env["FSDP_RESHARD_AFTER_FORWARD"] = Setting(reshards, words.place)
        elif word in FSDP1_ONLY and is_v2:
            keys.refuse(f"fsdp: {item} exists only with FSDP1", words, "fsdp: [full_shard]")
        elif word in FSDP1_ONLY:
            keys.note(
                "PF140",
                f"fsdp: {item} has no effect for FSDP1: accelerate takes FULL_SHARD",
                words,
                "fsdp_version: 2 and reshard_after_forward in fsdp_config",
            )
        elif word not in ("full_shard", "auto_wrap"):
            keys.refuse(f"fsdp does not know the word {item!r}", words, "remove fsdp")


def _parallelism(keys: FrameworkKeys) -> None:
    experts = keys.count("expert_parallel_size")
    if experts is not None and experts.value > 1:
        # a mesh of axolotl's own: fewer experts on a rank, and as many tokens as the others send
        name = "expert parallelism"
        keys.leave_out(NotModelled(f"{name} is not estimated", name, "either"), experts)
        return
    sizes = {name: size for name in PARALLELISM if (size := keys.count(name)) and size.value > 1}
    if (
        set(sizes) == {"context_parallel_size"}
        and not keys.environment
        and "deepspeed" not in keys.arguments
    ):
        # axolotl lets context parallelism stand without FSDP (ACCELERATE_ALLOW_CP_STANDALONE).
        size = sizes["context_parallel_size"]
        keys.put("context_parallel_degree", size.value, size)
        return
    for name, size in sizes.items():
        keys.environment[PARALLELISM[name]] = Setting(str(size.value), size.place)
    if sizes:
        at = next(iter(sizes.values()))
        keys.environment["ACCELERATE_USE_PARALLELISM_CONFIG"] = Setting("true", at.place)


def name_open_degrees(keys: FrameworkKeys, part: LauncherPart) -> None:
    """Name degrees over ranks that nobody counts, where FSDP shards what tensor and context parallelism leave of them.

    Sizes that do not make up all ranks are refused: accelerate takes them as they are given, and what axolotl works out
    itself is the mesh for its loader alone (utils/trainer.py setup_parallelism_envs, utils/distributed.py
    build_parallelism_config, 0.12 to 0.19; accelerate/parallelism_config.py _validate_accelerator, 1.10 to 1.15).
    """
    given = {name: keys.environment.get(variable) for name, variable in PARALLELISM.items()}
    first = next((size for size in given.values() if size is not None), None)
    shards = given["dp_shard_size"] is not None or "ACCELERATE_USE_FSDP" not in keys.environment
    if first is None or shards or not part.has_open_ranks:
        return
    del keys.environment["ACCELERATE_USE_PARALLELISM_CONFIG"]
    message = f"{first.place.key} divides ranks, and how many are left to shard is not known"
    keys.leave_out(NotModelled(message, "degrees over ranks that nobody counts", "either"), first)

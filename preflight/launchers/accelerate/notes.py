"""What accelerate does without a word and a person should know: unused sections, other-version keys, stray variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from preflight.bool_words import as_word
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launchers.accelerate.config import AccelerateConfig
from preflight.launchers.accelerate.environment_notes import environment_notes
from preflight.launchers.accelerate.keys import with_prefix
from preflight.launchers.accelerate.settings import LauncherSettings
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import DISTRIBUTED_MODES

_ONLY_V1 = {
    "fsdp_sharding_strategy": "fsdp_reshard_after_forward (true saves memory), or parallelism_config for HSDP",
    "fsdp_backward_prefetch": "remove it",
    "fsdp_forward_prefetch": "remove it",
    "fsdp_use_orig_params": "remove it",
    "fsdp_sync_module_states": "remove it",
}
_HARMLESS_V1 = {
    # What these say is what FSDP2 does anyway.
    "fsdp_sharding_strategy": ("FULL_SHARD", "1"),
    "fsdp_backward_prefetch": ("BACKWARD_PRE", "1", "NO_PREFETCH"),
    "fsdp_forward_prefetch": ("FALSE",),
    "fsdp_use_orig_params": ("TRUE",),
    "fsdp_sync_module_states": ("TRUE", "FALSE"),
}


def launch_notes(
    settings: LauncherSettings, env: Mapping[str, Setting], engine: EngineSettings
) -> Iterator[Problem]:
    """Yield the notices about a launch that was read."""
    yield from _environment(env, settings, str(engine.fields["engine"].value))
    config = settings.config
    if config is not None:
        if config.is_default:
            yield Problem(
                f"the launch uses the default config {config.path}",
                config.path,
                "--config_file FILE names another",
                "PF104",
                "info",
            )
        yield from _unused_sections(config, settings)
    kind = str(engine.fields["engine"].value)
    if kind in ("fsdp1", "fsdp2"):
        yield from _other_version(settings, engine)
    if kind.startswith("zero"):
        yield from _deepspeed(settings, engine)


def _unused_sections(config: AccelerateConfig, settings: LauncherSettings) -> Iterator[Problem]:
    wanted = {
        "fsdp_config": "fsdp",
        "deepspeed_config": "deepspeed",
        "megatron_lm_config": "megatron",
    }
    for section, mode in wanted.items():
        if config.section(section) and settings.mode != mode:
            kind = {"fsdp_config": "FSDP", "deepspeed_config": "DEEPSPEED"}.get(
                section, "MEGATRON_LM"
            )
            yield Problem(
                f"{section} is not used: this launch is {settings.mode.replace('_', '-')}",
                config.where(section),
                f"distributed_type: {kind}, or remove the section",
                "PF114",
                "warning",
            )


def _environment(
    env: Mapping[str, Setting], settings: LauncherSettings, engine: str
) -> Iterator[Problem]:
    yield from environment_notes(env, engine, settings.mode in DISTRIBUTED_MODES)
    for name in ("FSDP_AUTO_WRAP_POLICY", "FSDP_TRANSFORMER_CLS_TO_WRAP", "FSDP_STATE_DICT_TYPE"):
        setting = env.get(name)
        if settings.mode == "fsdp" and setting is not None and setting.place.kind == "env":
            yield Problem(
                f"${name} of this shell is used: the config does not say it",
                f"${name}",
                f"{name.lower()} in fsdp_config",
                "PF116",
                "info",
            )


def _other_version(settings: LauncherSettings, engine: EngineSettings) -> Iterator[Problem]:
    version = 2 if engine.fields["engine"].value == "fsdp2" else 1
    for key in _stated_fsdp_keys(settings):
        setting = settings.values[key]
        word = str(setting.value).upper()
        if version == 2 and key in _ONLY_V1 and word not in (*_HARMLESS_V1[key], "NONE"):
            yield Problem(
                f"{_shown(setting, key)} has no effect with FSDP2",
                setting.place.where,
                _ONLY_V1[key],
                "PF201",
                "warning",
            )
        if (
            version == 1
            and key == "fsdp_reshard_after_forward"
            and word not in ("TRUE", "FULL_SHARD")
        ):
            yield Problem(
                f"{_shown(setting, key)} has no effect with FSDP1",
                setting.place.where,
                "fsdp_sharding_strategy: SHARD_GRAD_OP, or fsdp_version: 2",
                "PF201",
                "warning",
            )
    if engine.fsdp_arguments and settings.mode == "fsdp":
        place = engine.fsdp_arguments["fsdp_version"].place
        yield Problem(
            "the trainer's --fsdp replaces the launcher's FSDP settings",
            place.where,
            "keep them in one place: drop --fsdp, or the fsdp_config section",
            "PF205",
            "warning",
        )
    policy = engine.fields["wrap_policy"]
    if policy.value == "none":
        where = policy.place.where
        if policy.place.kind == "default" and settings.config is not None:
            where = settings.config.where("fsdp_config")
        yield Problem(
            "no FSDP wrap policy: the whole model is gathered at once",
            where,
            "fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP",
            "PF202",
            "warning",
        )


def _stated_fsdp_keys(settings: LauncherSettings) -> list[str]:
    keys = [
        key
        for key, s in settings.values.items()
        if str(key).startswith("fsdp_") and s.place.kind == "argv"
    ]
    if settings.config is not None:
        keys.extend(
            with_prefix("fsdp_config", str(key)) for key in settings.config.section("fsdp_config")
        )
    return [key for key in dict.fromkeys(keys) if key in settings.values]


def _shown(setting: Setting, key: str) -> str:
    name = setting.place.key.rpartition(".")[2] or key
    return (
        f"{name} {setting.value}"
        if setting.place.kind == "argv"
        else f"{name}: {as_word(setting.value)}"
    )


def _deepspeed(settings: LauncherSettings, engine: EngineSettings) -> Iterator[Problem]:
    config = settings.config
    stage = engine.fields["engine"]
    if config is None or settings.mode != "deepspeed":
        return
    section = config.section("deepspeed_config")
    if stage.place.kind == "default" and not engine.documents.get("deepspeed") and not section:
        yield Problem(
            "DeepSpeed without a deepspeed_config: accelerate takes ZeRO stage 2 without offload",
            config.where("distributed_type"),
            "deepspeed_config: {zero_stage: 3}",
            "PF301",
            "warning",
        )
    flag = settings.value("zero3_init_flag")
    if stage.value == "zero3" and str(flag).lower() == "false":
        yield Problem(
            "zero3_init_flag: false does not turn zero.Init off under transformers",
            settings.where("zero3_init_flag"),
            "remove it",
            "PF304",
            "info",
        )
    for key in ("offload_optimizer_nvme_path", "offload_param_nvme_path"):
        value = settings.value(key)
        device = str(settings.value(key.replace("nvme_path", "device"))).lower()
        if value not in (None, "none", "null") and device == "nvme":
            yield Problem(
                f"accelerate never hands {key} to DeepSpeed",
                settings.where(key),
                "name a DeepSpeed file with nvme_path in deepspeed_config_file",
                "PF305",
                "warning",
            )

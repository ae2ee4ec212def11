"""Which engine trains, decided by launcher, environment and trainer together, with its settings in plan fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from preflight.dialects.accelerate_launcher import LauncherSettings
from preflight.dialects.deepspeed_config import (
    DeepSpeedConfig,
    fill_from_plugin,
    fill_precision,
    load_deepspeed_file,
    plugin_values,
    synthesized,
)
from preflight.dialects.deepspeed_fields import check_keys, deepspeed_fields, nested_settings
from preflight.dialects.deepspeed_keys import FORBIDDEN_BESIDE_FILE
from preflight.dialects.deepspeed_match import fill_and_match
from preflight.dialects.fsdp_settings import read_fsdp
from preflight.dialects.parallelism import read_parallelism, shard_fields
from preflight.dialects.settings import Place, Setting
from preflight.dialects.trainer_arguments import TrainerArguments
from preflight.dialects.trainer_fsdp import plugin_arguments
from preflight.dialects.worker_environment import is_on
from preflight.errors import Problem
from preflight.launch import DeepSpeedSettings, LaunchCommand

HF_TRAINERS = ("transformers", "trl")
"""Trainers that read TrainingArguments and hold them against DeepSpeed's config."""
DISTRIBUTED_MODES = ("fsdp", "deepspeed", "multi_gpu")


@dataclass
class EngineSettings:
    """The engine's part of the plan."""

    fields: dict[str, Setting] = field(default_factory=dict)
    deepspeed: DeepSpeedSettings | None = None
    deepspeed_place: Place = field(default_factory=lambda: Place("default", "", "deepspeed"))
    documents: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    more_places: dict[str, tuple[Place, ...]] = field(default_factory=dict)
    """Plan field -> places that state the same value again and must be changed with it."""
    library_names: tuple[str, ...] = ("accelerate", "torch")
    fsdp_arguments: Mapping[str, Setting] = field(default_factory=dict)
    """The trainer's own FSDP arguments; empty where the launcher decides."""


def read_engine(
    settings: LauncherSettings,
    env: Mapping[str, Setting],
    trainer: TrainerArguments,
    ranks: Mapping[str, Setting],
    command: LaunchCommand,
    versions: Mapping[str, str],
    problems: list[Problem],
) -> EngineSettings:
    """Return engine, degrees, precision, sharding and offload of the launch."""
    engine = EngineSettings(fields=dict(ranks))
    arguments = trainer.arguments
    distributed = settings.mode in DISTRIBUTED_MODES
    given = arguments.get("deepspeed")
    trainer_file = given if given is not None and given.value else None
    explicit = plugin_arguments(arguments, command, problems)
    precision = _precision(env, trainer)
    strategy = "FULL_SHARD"
    if trainer_file is not None or is_on(env, "ACCELERATE_USE_DEEPSPEED"):
        if explicit:
            problems.append(
                Problem(
                    "--fsdp and DeepSpeed cannot be combined",
                    arguments["fsdp"].place.where,
                    "drop one of them",
                    "PF112",
                )
            )
        _read_deepspeed(
            engine,
            settings,
            env,
            trainer,
            trainer_file,
            precision,
            command,
            versions,
            problems,
        )
    elif distributed and (explicit or is_on(env, "ACCELERATE_USE_FSDP")):
        fsdp = read_fsdp(env, explicit, problems)
        strategy = fsdp.strategy
        engine.fields.update(fsdp.fields)
        engine.fields["mixed_precision"] = precision
        engine.facts.update(
            fsdp_version=fsdp.version, fsdp_activation_checkpointing=fsdp.checkpoints
        )
        engine.fsdp_arguments = explicit
        _checkpointing(engine, trainer, fsdp.checkpoints, fsdp.checkpoints_place, problems)
    else:
        if explicit:
            problems.append(
                Problem(
                    "--fsdp needs a distributed launch, and this one starts a single process",
                    arguments["fsdp"].place.where,
                    "distributed_type: FSDP with num_processes, or drop --fsdp",
                    "PF112",
                )
            )
        name = "ddp" if distributed else "single"
        engine.fields["engine"] = Setting(name, settings.mode_place)
        engine.fields["mixed_precision"] = precision
    kind = str(engine.fields["engine"].value)
    place = engine.fields["engine"].place
    if kind == "fsdp1":
        place = engine.fields["reshard_after_forward"].place
    engine.fields.update(shard_fields(kind, strategy, ranks, place))
    engine.fields.update(read_parallelism(env, kind, ranks["world_size"], problems))
    _compile(engine, env, arguments)
    _add_launcher_precision(engine, settings)
    engine.library_names = _libraries(trainer, kind)
    return engine


def _libraries(trainer: TrainerArguments, kind: str) -> tuple[str, ...]:
    """Return the libraries whose versions decide a default of this launch."""
    names = ["accelerate", "torch", "transformers"]
    if trainer.trainer == "trl":
        names.append("trl")
    if kind.startswith("zero"):
        names.append("deepspeed")
    adapter = trainer.settings.get("adapter")
    if adapter is not None and adapter.value is not None:
        names.append("peft")
    return tuple(names)


def _add_launcher_precision(engine: EngineSettings, settings: LauncherSettings) -> None:
    """Record the launcher's precision as a second place where the trainer's flag says the same."""
    decided = engine.fields["mixed_precision"]
    place = settings.place("mixed_precision")
    same = str(settings.value("mixed_precision")).lower() == decided.value
    if same and place.kind != "default" and place != decided.place:
        more = engine.more_places.get("mixed_precision", ())
        engine.more_places["mixed_precision"] = (*more, place)


def _precision(env: Mapping[str, Setting], trainer: TrainerArguments) -> Setting:
    """Return the trainer's fp16 or bf16 flag, else the launcher's mixed precision (TrainingArguments.__post_init__)."""
    for kind in ("fp16", "bf16"):
        if kind in trainer.arguments and trainer.arguments[kind].value:
            return Setting(kind, trainer.arguments[kind].place)
    if trainer.trainer not in HF_TRAINERS and "mixed_precision" in trainer.settings:
        return trainer.settings["mixed_precision"]  # a script's own flag, for its Accelerator
    return env["ACCELERATE_MIXED_PRECISION"]


def _checkpointing(
    engine: EngineSettings,
    trainer: TrainerArguments,
    own: bool,
    place: Place,
    problems: list[Problem],
) -> None:
    """Settle who recomputes: FSDP's own switch or the trainer's; transformers refuses both."""
    of_trainer = trainer.settings.get("activation_checkpointing")
    trainer_on = of_trainer is not None and of_trainer.value not in (None, "none")
    if own and trainer_on and of_trainer is not None:
        where = trainer.origins["activation_checkpointing"].where
        fix = "fsdp_activation_checkpointing: false"
        problems.append(
            Problem(
                f"{place.key.rpartition('.')[2].lstrip('-')} is on, and the trainer's own activation checkpointing too ({where})",
                place.where,
                f"{fix}: the trainer's saves as much and keeps the random state of dropout",
                "PF203",
            )
        )
    elif own:
        engine.fields["activation_checkpointing"] = Setting("full", place)


def _read_deepspeed(
    engine: EngineSettings,
    settings: LauncherSettings,
    env: Mapping[str, Setting],
    trainer: TrainerArguments,
    trainer_file: Setting | None,
    precision: Setting,
    command: LaunchCommand,
    versions: Mapping[str, str],
    problems: list[Problem],
) -> None:
    stated, arguments, is_hf = trainer_file, trainer.arguments, trainer.trainer in HF_TRAINERS
    if stated is None and env.get("ACCELERATE_DEEPSPEED_CONFIG_FILE") is not None:
        file = env["ACCELERATE_DEEPSPEED_CONFIG_FILE"]
        stated = file if file.value not in ("", "none") else None
    values = plugin_values(env, problems)
    world_size = engine.fields["world_size"].value
    config: DeepSpeedConfig | None
    if stated is None:
        config = synthesized(values)
    else:
        _check_beside_file(settings, stated, problems)
        config = load_deepspeed_file(stated, command, problems)
        if config is None:
            # Refused already; the rest of the launch is still read for what else is wrong.
            engine.fields["engine"] = Setting("zero0", stated.place)
            engine.fields["mixed_precision"] = precision
            return
        problems.extend(check_keys(config, _numbers(versions["deepspeed"])))
        if config.path and not config.path.startswith("-"):
            engine.documents["deepspeed"] = config.path
    silent = config.get("bf16.enabled") == "auto" and config.place("bf16.enabled")
    stages_places = {key: config.place(key) for key in _LINKED}
    # The trainer's own file is matched before the plugin adds its values, the launcher's after.
    if is_hf and trainer_file is not None:
        fill_and_match(config, arguments, world_size, problems)
    if stated is not None:
        fill_from_plugin(config, values)
    fill_precision(config, precision, problems)
    if is_hf and trainer_file is None:
        fill_and_match(config, arguments, world_size, problems)
    fields = deepspeed_fields(config, True, problems)
    if silent and fields["mixed_precision"].value == "no" and precision.value == "bf16":
        problems.append(
            Problem(
                f"bf16 is auto in the DeepSpeed config and --bf16 is not given: training runs in fp32, although {precision.place.where} says bf16",
                silent.where,
                "--bf16",
                "PF306",
                "warning",
            )
        )
    nested = {name: s for name, s in fields.items() if name.startswith("deepspeed.")}
    engine.fields.update(fields)
    engine.deepspeed = nested_settings(nested)
    engine.deepspeed_place = config.place("zero_optimization.stage")
    if config.document is not None:
        engine.deepspeed_place = Place(
            "json", config.path, "zero_optimization", config.document.line("zero_optimization")
        )
    if not is_hf:
        steps = config.setting("gradient_accumulation_steps")
        if isinstance(steps.value, int):
            engine.fields["gradient_accumulation_steps"] = steps
        clip = config.setting("gradient_clipping")
        if isinstance(clip.value, (int, float)):
            engine.fields["max_grad_norm"] = Setting(float(clip.value), clip.place)
        micro = config.setting("train_micro_batch_size_per_gpu")
        if isinstance(micro.value, int):
            engine.fields["micro_batch_size"] = micro
    engine.facts["deepspeed_optimizer"] = (
        (config.get("optimizer.type") or "") if config.has("optimizer") else ""
    )
    _optimizer(engine, config, trainer)
    for key, name in _LINKED.items():
        place = stages_places[key]
        if (
            place.kind != "default"
            and place != engine.fields.get(name, Setting(None, Place("default", "", ""))).place
        ):
            engine.more_places[name] = (place,)


def _optimizer(engine: EngineSettings, config: DeepSpeedConfig, trainer: TrainerArguments) -> None:
    """Record DeepSpeed's own optimizer: a block in the file beats `--optim`, and offload replaces AdamW.

    Source: map_pytorch_optim_to_deepspeed of accelerate 1.15.0 (accelerate/utils/deepspeed.py) and
    deepspeed_optim_sched of transformers 5.24.0.
    """
    offloads = engine.fields.get("offload_optimizer", _NONE).value not in (None, "none")
    forced = config.get("zero_force_ds_cpu_optimizer") is not False
    kind = config.get("optimizer.type")
    if kind is not None:
        if str(kind).lower() in ("adam", "adamw"):
            name = "deepspeed_cpu_adam" if offloads and forced else "deepspeed_fused_adam"
            engine.fields["optimizer"] = Setting(name, config.place("optimizer.type"))
        return
    chosen = trainer.settings.get("optimizer")
    if offloads and forced and (chosen is None or "adamw" in str(chosen.value)):
        place = engine.fields["offload_optimizer"].place
        engine.fields["optimizer"] = Setting("deepspeed_cpu_adam", place)


_NONE = Setting(None, Place("default", "", "deepspeed"))

_LINKED = {
    # DeepSpeed key -> plan field that it repeats
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_clipping": "max_grad_norm",
    "bf16.enabled": "mixed_precision",
    "fp16.enabled": "mixed_precision",
}


def _check_beside_file(
    settings: LauncherSettings, stated: Setting, problems: list[Problem]
) -> None:
    config = settings.config
    if config is None or settings.mode != "deepspeed":
        return
    names = [key for key in config.section("deepspeed_config") if key in FORBIDDEN_BESIDE_FILE]
    problems.extend(
        Problem(
            f"{name} must not stand beside a DeepSpeed file ({stated.place.where})",
            config.where(f"deepspeed_config.{name}"),
            f"remove {name} here and set it in the DeepSpeed file",
            "PF302",
        )
        for name in names
    )
    if settings.precision_from_config:
        problems.append(
            Problem(
                f"mixed_precision must not stand beside a DeepSpeed file ({stated.place.where})",
                settings.where("mixed_precision"),
                f"remove it here and give --mixed_precision {settings.value('mixed_precision')} on the command line",
                "PF302",
            )
        )


def _compile(
    engine: EngineSettings, env: Mapping[str, Setting], arguments: Mapping[str, Setting]
) -> None:
    """Record the launcher's dynamo backend; the trainer's own torch_compile flag is in its settings."""
    backend = env.get(
        "ACCELERATE_DYNAMO_BACKEND", Setting("NO", Place("default", "", "accelerate"))
    )
    flag = arguments.get("torch_compile")
    if str(backend.value).upper() != "NO" and not (flag is not None and flag.value):
        engine.fields["torch_compile"] = Setting(True, backend.place)


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())

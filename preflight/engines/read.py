"""Which engine trains, decided by launcher, environment and trainer together, with its settings in plan fields."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.engines.parallelism import read_parallelism, shard_fields
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.plan_choices import HF_TRAINERS
from preflight.setting import Place, Setting
from preflight.shell.launcher_part import LauncherPart
from preflight.shell.variables import is_on
from preflight.trainers.arguments import TrainerArguments


def read_engine(
    part: LauncherPart,
    trainer: TrainerArguments,
    command: LaunchCommand,
    versions: Mapping[str, str],
    problems: list[Problem],
) -> EngineSettings:
    """Return engine, degrees, precision, sharding and offload of the launch."""
    ranks = part.ranks
    engine = EngineSettings(fields=dict(ranks))
    arguments = trainer.arguments
    # TrlParser's variables are exported inside the script, over what the launcher wrote.
    env = {**part.env, **trainer.environment}
    given = arguments.get("deepspeed")
    trainer_file = given if given is not None and given.value else None
    explicit = _trainer_fsdp(arguments, command, problems)
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
        # Most launches use one engine: the other's rules are not even imported.
        from preflight.engines.deepspeed import read_deepspeed

        read_deepspeed(
            engine,
            env,
            trainer,
            trainer_file,
            precision,
            command,
            versions,
            problems,
        )
    elif part.is_distributed and (explicit or is_on(env, "ACCELERATE_USE_FSDP")):
        from preflight.engines.fsdp_settings import read_fsdp

        fsdp = read_fsdp(env, explicit, problems)
        strategy = fsdp.strategy
        engine.fields.update(fsdp.fields)
        engine.fields["mixed_precision"] = precision
        engine.facts.update(
            fsdp_version=fsdp.version, fsdp_activation_checkpointing=fsdp.checkpoints
        )
        engine.facts["fsdp_use_orig_params"] = fsdp.uses_orig_params
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
        name = "ddp" if part.is_distributed else "single"
        engine.fields["engine"] = Setting(name, part.mode_place)
        engine.fields["mixed_precision"] = precision
    kind = str(engine.fields["engine"].value)
    place = engine.fields["engine"].place
    if kind == "fsdp1":
        place = engine.fields["reshard_after_forward"].place
    engine.fields.update(shard_fields(kind, strategy, ranks, place))
    engine.fields.update(read_parallelism(env, kind, ranks["world_size"], problems))
    _compile(engine, env, arguments)
    _add_launcher_precision(engine, part.mixed_precision)
    engine.library_names = _libraries(trainer, kind)
    return engine


def _trainer_fsdp(
    arguments: Mapping[str, Setting], command: LaunchCommand, problems: list[Problem]
) -> dict[str, Setting]:
    fsdp = arguments.get("fsdp")
    if fsdp is None or not fsdp.value:
        return {}
    from preflight.engines.trainer_fsdp import plugin_arguments

    return plugin_arguments(arguments, command, problems)


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


def _add_launcher_precision(engine: EngineSettings, stated: Setting) -> None:
    """Record the launcher's precision as a second place where the trainer's flag says the same."""
    decided = engine.fields["mixed_precision"]
    place = stated.place
    same = str(stated.value).lower() == decided.value
    if not same or place.kind == "default":
        return
    if decided.place.kind == "default":
        # The trainer's default decides, but the user said the same in the launcher's file.
        engine.fields["mixed_precision"] = Setting(decided.value, place)
    elif place != decided.place:
        more = engine.more_places.get("mixed_precision", ())
        engine.more_places["mixed_precision"] = (*more, place)


def _precision(env: Mapping[str, Setting], trainer: TrainerArguments) -> Setting:
    """Return the trainer's fp16 or bf16 flag, else the launcher's mixed precision (TrainingArguments.__post_init__)."""
    for kind in ("fp16", "bf16"):
        if kind in trainer.arguments and trainer.arguments[kind].value:
            return Setting(kind, trainer.arguments[kind].place)
    if trainer.trainer not in HF_TRAINERS and "mixed_precision" in trainer.settings:
        return trainer.settings["mixed_precision"]  # a script's own flag, for its Accelerator
    return env.get("ACCELERATE_MIXED_PRECISION", Setting("no", Place("default", "", "accelerate")))


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
        # accelerate/accelerator.py:1983 (1.15.0): CheckpointImpl.NO_REENTRANT
        engine.fields["checkpointing_reentrant"] = Setting(False, place)


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

"""Which engine trains, decided by launcher, environment and trainer together, with its settings in plan fields."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from preflight.engines.parallelism import read_parallelism, shard_fields, with_counted_ranks
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem
from preflight.launch import EngineFacts, LaunchCommand, Origin
from preflight.libraries.resolve import Libraries
from preflight.plan_choices import HF_TRAINERS
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.variables import is_on
from preflight.trainers.arguments import TrainerArguments
from preflight.values import NamedTuple, replace

if TYPE_CHECKING:
    from preflight.scripts.settings.script_settings import OwnEngine


class _Chosen(NamedTuple):
    """The engine of a launch, and what its degrees are worked out from."""

    settings: EngineSettings
    strategy: str = "FULL_SHARD"
    """How FSDP1 shards."""
    mesh: Mapping[str, Setting] = {}
    """Degrees that a script's own call gives."""


def read_engine(
    part: LauncherPart, trainer: TrainerArguments, command: LaunchCommand, libraries: Libraries
) -> Reading[EngineSettings]:
    """Return engine, degrees, precision, sharding and offload of the launch."""
    problems = Problems()
    # TrlParser's variables are exported inside the script, over what the launcher wrote.
    env = {**part.env, **trainer.environment}
    part = with_counted_ranks(part, env)
    ranks = part.ranks
    sets_up = trainer.trainer not in HF_TRAINERS and part.may_be_distributed
    own = trainer.engine if sets_up else None
    engine, strategy, mesh = problems.take(_choose(part, trainer, env, own, command, libraries))
    kind = str(engine.fields["engine"].value)
    place = engine.fields["engine"].place
    if kind == "fsdp1":
        place = engine.fields["reshard_after_forward"].place
    fields = {
        **ranks,
        **engine.fields,
        **shard_fields(kind, strategy, ranks, place, engine.fields.get("tensor_parallel_degree")),
        **mesh,
        **problems.take(read_parallelism(env, kind, ranks["world_size"])),
        **_compile(env, trainer.arguments),
    }
    engine = replace(engine, fields=fields, library_names=_libraries(trainer, kind))
    if own is not None and own.is_sure and own.engines[0] == kind:
        engine = _with_open_group(engine, own, ranks)
    return Reading(_with_launcher_precision(engine, part.mixed_precision), tuple(problems))


def _choose(
    part: LauncherPart,
    trainer: TrainerArguments,
    env: Mapping[str, Setting],
    own: OwnEngine | None,
    command: LaunchCommand,
    libraries: Libraries,
) -> Reading[_Chosen]:
    """Return the engine that trains: DeepSpeed where anybody asks for it, then FSDP, then what the script sets up itself.

    Most launches use one engine: the other's rules are not even imported.
    """
    problems = Problems()
    given = trainer.arguments.get("deepspeed")
    deepspeed = given if given is not None and given.value else None
    of_trainer = _trainer_fsdp(trainer.arguments, command, libraries)
    explicit = problems.take(of_trainer if trainer.is_here else of_trainer.stopping_nothing())
    precision = _precision(env, trainer)
    asks_deepspeed = deepspeed is not None or is_on(env, "ACCELERATE_USE_DEEPSPEED")
    asks_fsdp = bool(explicit) or is_on(env, "ACCELERATE_USE_FSDP")
    if explicit and (asks_deepspeed or not part.may_be_distributed):
        problems.append(_fsdp_in_vain(trainer.arguments["fsdp"].place, asks_deepspeed))
    asks_fsdp = asks_fsdp and part.may_be_distributed
    if not asks_deepspeed and not asks_fsdp and own is not None:
        if own.deepspeed is not None:
            asks_deepspeed = True
            made = {"zero_optimization": {}, **own.deepspeed.value}
            deepspeed = Setting(made, own.deepspeed.place)
        elif own.is_sure and own.engines[0] in ("fsdp1", "fsdp2"):
            fields = {**_of_own_call(own), "mixed_precision": precision}
            mesh = _of_mesh(own, part.ranks)
            return Reading(_Chosen(EngineSettings(fields), own.strategy, mesh), tuple(problems))
    if asks_deepspeed:
        from preflight.engines.deepspeed import read_deepspeed

        engine = problems.take(
            read_deepspeed(part, env, trainer, deepspeed, precision, command, libraries)
        )
        return Reading(_Chosen(engine), tuple(problems))
    if asks_fsdp:
        from preflight.engines.fsdp_settings import read_fsdp

        fsdp = problems.take(read_fsdp(env, explicit))
        checkpointing = problems.take(
            _checkpointing(trainer, fsdp.checkpoints, fsdp.checkpoints_place)
        )
        engine = EngineSettings(
            {**fsdp.fields, "mixed_precision": precision, **checkpointing},
            facts=EngineFacts(
                fsdp_checkpoints=fsdp.checkpoints, fsdp_uses_orig_params=fsdp.uses_orig_params
            ),
            fsdp_arguments=explicit,
        )
        return Reading(_Chosen(engine, fsdp.strategy), tuple(problems))
    name = Setting("ddp" if part.is_distributed else "single", part.mode_place)
    plain = EngineSettings({"engine": name, "mixed_precision": precision})
    return Reading(_Chosen(plain), tuple(problems))


def _fsdp_in_vain(place: Place, asks_deepspeed: bool) -> Problem:
    """Return what is wrong with the trainer's --fsdp beside DeepSpeed, or in a single process."""
    if asks_deepspeed:
        message = "--fsdp and DeepSpeed cannot be combined"
        return Problem(message, place.where, "drop one of them", "PF112")
    return Problem(
        "--fsdp needs a distributed launch, and this one starts a single process",
        place.where,
        "distributed_type: FSDP with num_processes, or drop --fsdp",
        "PF112",
    )


DEGREES = ("shard_degree", "replicate_degree")


def _of_mesh(own: OwnEngine, ranks: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the degrees of a mesh that a script's own call gives, where it has the ranks that there are."""
    said = {name: own.fields[name] for name in DEGREES if name in own.fields}
    if prod(each.value for each in said.values()) != ranks["world_size"].value:
        return {}
    return {name: Setting(each.value, each.place) for name, each in said.items()}


def _with_open_group(
    engine: EngineSettings, own: OwnEngine, ranks: Mapping[str, Setting]
) -> EngineSettings:
    """Return the engine with an open shard degree where a call may divide the model over other ranks than all."""
    degree, said = engine.fields["shard_degree"], own.fields.get("shard_degree")
    is_read = said is not None and degree.place == said.place
    if own.group == "all" or is_read:
        return engine
    world, per_node = (
        ranks["world_size"].value,
        ranks["world_size"].value // ranks["num_nodes"].value,
    )
    # FSDP1 may not shard at all; a mesh of FSDP2 has two ranks, or nobody had made one; a `node` has all of its own
    fewest = (1,) if own.engines[0] == "fsdp1" else (2,) if own.group == "mesh" else ()
    may_be = tuple(dict.fromkeys((degree.value, world, per_node, *fewest)))
    if len(may_be) == 1 or world == 1:
        return engine
    reason = f"{own.place.where} divides the model over ranks that only running tells"
    origin = Origin(degree.place.where, True, reason, may_be)
    return replace(engine, origins={**engine.origins, "shard_degree": origin})


def _of_own_call(own: OwnEngine) -> dict[str, Setting]:
    """Return the engine of torch's own FSDP call around a model, with what the call says."""
    kind = own.engines[0]
    default = Place("default", "", "torch")
    fields = {
        "engine": Setting(kind, own.place),
        "reshard_after_forward": Setting(True, default),
        "wrap_policy": Setting("transformer", default),
        "offload_params": Setting("none", default),
        "master_dtype": Setting("loaded", default),
        **{
            name: Setting(said.value, said.place)
            for name, said in own.fields.items()
            if name not in DEGREES
        },
    }
    if kind == "fsdp1":
        fields["backward_prefetch"] = Setting("backward_pre", default)
    return fields


def _trainer_fsdp(
    arguments: Mapping[str, Setting], command: LaunchCommand, libraries: Libraries
) -> Reading[dict[str, Setting]]:
    fsdp = arguments.get("fsdp")
    if fsdp is None or not fsdp.value:
        return Reading({})
    from preflight.engines.trainer_fsdp import plugin_arguments

    return plugin_arguments(arguments, command, libraries)


def _libraries(trainer: TrainerArguments, kind: str) -> tuple[str, ...]:
    """Return the libraries whose versions decide a default of this launch."""
    names = ["accelerate", "torch", "transformers"]
    if trainer.trainer == "trl":
        names.append("trl")
    names += trainer.libraries
    if kind.startswith("zero"):
        names.append("deepspeed")
    adapter = trainer.settings.get("adapter")
    if adapter is not None and adapter.value is not None:
        names.append("peft")
    return tuple(names)


def _with_launcher_precision(engine: EngineSettings, stated: Setting) -> EngineSettings:
    """Return the engine with the launcher's precision as a second place where the trainer's flag says the same."""
    decided = engine.fields["mixed_precision"]
    place = stated.place
    same = str(stated.value).lower() == decided.value
    if not same or place.kind == "default" or place == decided.place:
        return engine
    if decided.place.kind == "default":
        # The trainer's default decides, but the user said the same in the launcher's file.
        said = Setting(decided.value, place)
        return replace(engine, fields={**engine.fields, "mixed_precision": said})
    more = (*engine.more_places.get("mixed_precision", ()), place)
    return replace(engine, more_places={**engine.more_places, "mixed_precision": more})


def _precision(env: Mapping[str, Setting], trainer: TrainerArguments) -> Setting:
    """Return the trainer's fp16 or bf16 flag, else the launcher's mixed precision (TrainingArguments.__post_init__)."""
    for kind in ("fp16", "bf16"):
        if kind in trainer.arguments and trainer.arguments[kind].value:
            return Setting(kind, trainer.arguments[kind].place)
    if trainer.trainer not in HF_TRAINERS and "mixed_precision" in trainer.settings:
        return trainer.settings["mixed_precision"]  # a script's own flag, for its Accelerator
    library = "torch" if trainer.trainer is None else "accelerate"
    return env.get("ACCELERATE_MIXED_PRECISION", Setting("no", Place("default", "", library)))


def _checkpointing(
    trainer: TrainerArguments, own: bool, place: Place
) -> Reading[dict[str, Setting]]:
    """Return what FSDP's own switch makes of checkpointing; transformers refuses it beside the trainer's."""
    if not own:
        return Reading({})
    of_trainer = trainer.settings.get("activation_checkpointing")
    trainer_on = of_trainer is not None and of_trainer.value not in (None, "none")
    if trainer_on and of_trainer is not None and _is_sure(trainer, of_trainer):
        where = trainer.origins["activation_checkpointing"].where
        fix = "fsdp_activation_checkpointing: false"
        both = Problem(
            f"{place.key.rpartition('.')[2].lstrip('-')} is on, and the trainer's own activation checkpointing too ({where})",
            place.where,
            f"{fix}: the trainer's saves as much and keeps the random state of dropout",
            "PF203",
        )
        return Reading({}, (both,))
    # accelerate/accelerator.py:1983 (1.15.0): CheckpointImpl.NO_REENTRANT
    reentrant = Setting(False, place)
    return Reading(
        {"activation_checkpointing": Setting("full", place), "checkpointing_reentrant": reentrant}
    )


def _is_sure(trainer: TrainerArguments, setting: Setting) -> bool:
    """Tell whether the library's own class surely has this value of an argument."""
    is_default = setting.place.kind == "default"
    return trainer.has_sure_defaults if is_default else trainer.is_sure


def _compile(env: Mapping[str, Setting], arguments: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return what the launcher's dynamo backend says; the trainer's own torch_compile flag is in its settings."""
    backend = env.get(
        "ACCELERATE_DYNAMO_BACKEND", Setting("NO", Place("default", "", "accelerate"))
    )
    flag = arguments.get("torch_compile")
    if str(backend.value).upper() != "NO" and not (flag is not None and flag.value):
        return {"torch_compile": Setting(True, backend.place)}
    return {}

"""A launch as a LaunchPlan, from what a launcher decided on: the script's arguments, the engine, the plan.

Every dialect reads its launcher into a LauncherPart and continues here; the half behind the script's
name is the same under each of them. Problems are collected all the way and raised once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from preflight.engines.own_deepspeed import (
    opened_engine,
    own_initialize,
)
from preflight.engines.settings import EngineSettings
from preflight.errors import Problem, raise_if_any
from preflight.launch import (
    SCRIPT_DECIDES,
    LaunchCommand,
    LaunchPlan,
    Origin,
    TrainerFacts,
    VersionReading,
)
from preflight.launchers.lacking import lacking
from preflight.launchers.not_read import (
    does_not_train,
    is_not_asked_to_train,
    not_here,
    settings_of_published,
    unseen,
)
from preflight.launchers.other_versions import plan_values, span_of, version_readings
from preflight.launchers.step_losses import (
    beside_scorer,
    doubts_of,
    priced_scorer,
    priced_step,
    settings_of_step,
)
from preflight.launchers.uncut_rows import never_cut, without_length
from preflight.launchers.undecided import (
    left_out,
    ranks_of,
    synchronised,
    undecided,
    with_replaced_attention,
    without_gathers,
)
from preflight.launchers.zero_init import zero_init_of
from preflight.libraries.requirement import LIBRARIES
from preflight.libraries.resolve import Libraries, libraries_of
from preflight.plan_choices import OPEN_VALUES
from preflight.plan_parts import DIVIDED, FLOAT8, FLOAT8_HEAD
from preflight.scripts.settings.model_shape import adds_to_model
from preflight.scripts.settings.second_model import SECOND_MODEL
from preflight.scripts.signs import OF_STEP, signs_of
from preflight.scripts.uncounted.sign_words import FROZEN
from preflight.scripts.uncounted.uncounted import REPLICAS
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.trainers.arguments import TrainerArguments
from preflight.trainers.frozen_parts import frozen_parts, has_adapter
from preflight.trainers.own_towers import beside_projector, counted_composites, with_tower
from preflight.trainers.script_told import why_open
from preflight.writers.source import LaunchSource


@dataclass
class _Making:
    """A plan as it is put together: what is told of each field, where it was said, and what was seen on the way."""

    command: LaunchCommand
    part: LauncherPart
    trainer: TrainerArguments
    engine: EngineSettings
    problems: list[Problem]
    libraries: Libraries
    fields: dict[str, Setting] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)

    def put(self, name: str, setting: Setting) -> None:
        """Record a field with its value and its place."""
        self.fields[name] = setting
        self.origins[name] = origin_of(setting.place, self.libraries)

    def take_what_is_said(self) -> None:
        """Take the fields of the trainer's arguments, then the engine's, which beat them but for its defaults' places."""
        self.fields.update(self.trainer.settings)
        self.origins.update(self.trainer.origins)
        for name, setting in self.engine.fields.items():
            before = self.origins.get(name)
            self.put(name, setting)
            if before is not None and setting.place.kind == "default":
                self.origins[name] = before
        if self.engine.deepspeed is not None:
            self.origins["deepspeed"] = origin_of(self.engine.deepspeed_place, self.libraries)

    def open_what_only_running_tells(self) -> None:
        """Open the fields that the script sets to what cannot be read, and the number of ranks where nobody says it."""
        fields, origins, script = self.fields, self.origins, self.trainer.script
        for name, place in script.unread.items():
            if name != "engine" and (name not in fields or fields[name].place.kind == "default"):
                where = origins[name].where if name in origins else SCRIPT_DECIDES
                reason = why_open(place)
                may_be = script.may_be.get(name, OPEN_VALUES.get(name, ()))
                origins[name] = Origin(where, True, reason, may_be)
        for name, others in script.half_said.items():
            reason = "the script sets a part of it to something known only when it runs"
            origins[name] = replace(origins[name], assumed=True, reason=reason, may_be=others)
        engine, of_launcher = fields.get("engine"), dict(self.part.origins)
        is_said = engine is not None and engine.place != self.part.mode_place
        if engine is not None and is_said and engine.place.kind != "default":
            of_launcher.pop("engine", None)  # the trainer's arguments choose another
        if fields["world_size"].place != self.part.ranks["world_size"].place:
            of_launcher.pop("world_size", None)  # degrees that must make it up say it
            self.problems = [each for each in self.problems if each.id != "PF115"]
            ranks = None
        else:
            ranks = ranks_of(self.part, self.trainer, self.problems)
        origins.update(of_launcher)
        if ranks is not None:
            origins["world_size"] = ranks
        self.problems += synchronised(self.trainer, fields.get("engine"))

    def take_what_the_script_holds(self) -> None:
        """Take what a script of somebody's own speaks of: fields that it may set, what nobody prices, rows that nothing cuts."""
        command, part, fields = self.command, self.part, self.fields
        script = command.argv[part.script_index] if part.script_index < len(command.argv) else ""
        signs = signs_of(command, script, self.trainer.reader)
        trainer = with_tower(self.trainer, signs.llava_classes)
        published = settings_of_published(script, trainer)
        trainer = replace(trainer, settings={**published, **trainer.settings})
        for name, setting in published.items():
            fields.setdefault(name, setting)
        if trainer.script.tower is not None and "adapter" in self.origins:
            self.origins["adapter"] = beside_projector(self.origins["adapter"])
        ranks, num_ranks = self.origins.get("world_size"), fields.get("world_size")
        own_engine = own_initialize(command, part.script_index)
        has_open_ranks = ranks is not None and bool(ranks.may_be)
        self.origins.update(undecided(trainer, fields, signs.fields, own_engine, has_open_ranks))
        self.origins.update(with_replaced_attention(fields, self.origins, signs.attention))
        is_alone = num_ranks is None or num_ranks.value == 1
        held = {k: v for k, v in signs.unpriced.items() if k != REPLICAS or is_alone}
        origin = self.origins.get("engine")
        engine = fields.get("engine")
        held = without_gathers(held, engine, origin, has_open_ranks)
        uncounted = without_gathers(trainer.script.uncounted, engine, origin, has_open_ranks)
        trainer = replace(trainer, script=replace(trainer.script, uncounted=uncounted))
        if FROZEN in held and not has_adapter(trainer):
            frozen = _frozen_by_statements(trainer)
            if frozen is not None:
                held.pop(FROZEN)
                trainer = replace(trainer, script=replace(trainer.script, frozen=frozen))
        if signs.divided is not None and num_ranks is not None and not has_open_ranks:
            held.pop(DIVIDED, None)
            degree = Setting(num_ranks.value, signs.divided)
            trainer = replace(
                trainer, settings={**trainer.settings, "context_parallel_degree": degree}
            )
            self.put("context_parallel_degree", degree)
        scorer = priced_scorer(trainer, signs.scorer)
        if scorer is not None:
            held = beside_scorer(held, scorer)
            trainer = trainer.without_uncounted([adds_to_model(scorer.name)])
            objective = Setting("scored_pairs", scorer.place)
            trainer = replace(trainer, settings={**trainer.settings, "objective": objective})
            self.put("objective", objective)
        step = priced_step(trainer, signs.step_loss)
        if step is not None:
            held = {k: v for k, v in held.items() if k not in OF_STEP}
            settings = settings_of_step(step)
            trainer = replace(trainer, settings={**trainer.settings, **settings})
            if step.compares == "reference":
                trainer = trainer.without_uncounted([SECOND_MODEL])
            for name, setting in settings.items():
                self.put(name, setting)
        self.problems += left_out(trainer, held, self.problems)
        self.problems += () if step is None else doubts_of(step)
        if not signs.may_train and (trainer.trainer is None or signs.infers):
            self.problems.append(does_not_train(script))
        unasked = is_not_asked_to_train(script, trainer) if signs.trains_if_asked else None
        self.problems += () if unasked is None else (unasked,)
        facts = replace(
            trainer.script,
            is_text_only=trainer.script.is_text_only or signs.is_text_only,
            step_loss=step,
            composites=counted_composites(trainer, signs.composites),
            towers_keep_outputs=signs.towers_keep_outputs,
            inputs_ask=signs.inputs_ask,
        )
        self.trainer = replace(trainer, script=facts)
        uncut = never_cut(self.trainer, signs)
        if uncut is not None:
            self.problems.append(uncut)
            fields.pop("seq_len"), self.origins.pop("seq_len", None)
            self.trainer = without_length(self.trainer)

    def note_versions(self, taken: Mapping[str, str], others: tuple[VersionReading, ...]) -> None:
        """Record where the version of each library was said, and which others it may have."""
        libraries, origins = self.libraries, self.origins
        self.problems += lacking(self.command, libraries)
        if libraries.unseen and not self.command.in_container:
            self.problems.append(unseen(libraries.unseen))
        for name in taken:
            origins[f"versions.{name}"] = libraries.of(name).origin
        if others:
            reason = (
                f"nothing says which the launch will have: {span_of(taken, others[-1].versions)}"
            )
            may_be = tuple(other.versions for other in others)
            origins["versions"] = Origin("nobody", True, reason, may_be)


def _changed(before: Mapping[str, Setting], after: Mapping[str, Setting]) -> frozenset[str]:
    """Return the names of settings that came, went or became another."""
    names = before.keys() | after.keys()
    return frozenset(name for name in names if before.get(name) is not after.get(name))


def _frozen_by_statements(trainer: TrainerArguments) -> dict[str, Place] | None:
    """Return what statements of the script freeze; few scripts have any, and the rest do without the module."""
    from preflight.scripts.settings.frozen_statements import frozen_by_statements

    return None if trainer.reader is None else frozen_by_statements(trainer.reader)


def make_plan(
    command: LaunchCommand,
    part: LauncherPart,
    trainer: TrainerArguments,
    engine: EngineSettings,
    problems: Iterable[Problem],
) -> LaunchPlan:
    """Put the plan together, its origins and what its writer needs; raise BadInput where a problem is an error."""
    problems = in_file_order(problems)
    raise_if_any(problems)
    libraries = trainer.library_versions or libraries_of(command)
    making = _Making(command, part, trainer, engine, problems, libraries)
    making.take_what_is_said()
    making.open_what_only_running_tells()
    if not trainer.script.is_of_library:
        making.take_what_the_script_holds()
    of_script = _changed(trainer.settings, making.trainer.settings)
    trainer, origins = making.trainer, making.origins
    if "engine" in trainer.script.unread:
        origins.update(opened_engine(engine, trainer.script.unread["engine"]))
    origins.update(engine.origins)
    values = plan_values(trainer, engine)
    zero_init = zero_init_of(trainer, engine, origins.get("engine"))
    if zero_init is not None:
        values["zero_init"], origins["zero_init"] = zero_init
    taken = {name: making.libraries.version(name) for name in engine.library_names}
    has_float8 = any(problem.unpriced in (FLOAT8, FLOAT8_HEAD) for problem in making.problems)
    if has_float8 and making.libraries.is_known("torchao"):
        taken["torchao"] = making.libraries.version("torchao")
    others = version_readings(command, part, trainer, making.libraries, taken, values, of_script)
    making.note_versions(taken, others)
    frozen = None if trainer.script.is_of_library else frozen_parts(trainer)
    if frozen is not None:
        values["vision"] = frozen.vision
        making.put("vision", Setting(frozen.vision, frozen.flag.place))
        origins["vision"] = replace(origins["vision"], may_be=frozen.may_be)
    variables = command.env if part.variables is None else part.variables
    expandable = _expandable_segments(variables, trainer.environment)
    values["expandable_segments"] = expandable.value
    making.put("expandable_segments", expandable)
    plan = LaunchPlan(
        **values,
        trainer=trainer.trainer,
        versions=taken,
        version_readings=others,
        launcher=part.name,
        cwd=command.cwd,
        origins=origins,
        notices=(
            *(problem for problem in making.problems if problem.severity != "error"),
            *not_here(command, part, trainer),
        ),
        command=command,
        documents={**trainer.documents, **engine.documents, **part.documents},
        rank_facts=part.rank_facts,
        script_facts=replace(trainer.script, index=part.script_index),
        trainer_facts=TrainerFacts(
            trainer.method,
            {**trainer.raw, **trainer.arguments},
            classes=trainer.classes,
            module=trainer.module,
        ),
        engine_facts=engine.facts,
        source=LaunchSource(part, _places(making.fields, engine, trainer)),
    )
    raise_if_any(replace(problem, id="PF111") for problem in plan.problems())
    return plan


def in_file_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return the problems of one file by line, files and flags in the order in which they first came up."""
    order: dict[str, int] = {}

    def key(problem: Problem) -> tuple[int, int]:
        path, _, line = problem.where.partition(":")
        rank = order.setdefault(path, len(order))
        number = line.partition(":")[0]
        return rank, int(number) if number.isdecimal() else 0

    return sorted(dict.fromkeys(problems), key=key)


def _places(
    fields: Mapping[str, Setting], engine: EngineSettings, trainer: TrainerArguments
) -> dict[str, tuple[Place, ...]]:
    """Return every place that states a field, the deciding one first; places without a home are left out."""
    places: dict[str, tuple[Place, ...]] = {}
    for name, setting in fields.items():
        more = engine.more_places.get(name, ())
        candidates = [setting.place, *more, *trainer.places.get(name, ())]
        kept = tuple(dict.fromkeys(place for place in candidates if place.kind != "default"))
        if kept:
            places[name] = kept
    return places


def origin_of(place: Place, libraries: Libraries) -> Origin:
    """Return a place as an Origin; a default names the library and version that it belongs to."""
    if place.kind != "default":
        return Origin(place.where)
    library, _, rest = place.key.partition(":")
    label = f"{library} {libraries.version(library)}" if library in LIBRARIES else library
    return Origin(f"default of {label}{':' + rest if rest else ''}")


def _expandable_segments(env: Mapping[str, str], of_script: Mapping[str, Setting]) -> Setting:
    """Read the allocator's variable; PyTorch takes the new name first, and a script's own value."""
    found = {name: Setting(text, Place("env", "", name)) for name, text in env.items()} | {
        **of_script
    }
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        if name in found:
            words = str(found[name].value).replace(" ", "").split(",")
            options = dict(word.partition(":")[::2] for word in words if word)
            on = options.get("expandable_segments", "").lower() == "true"
            return Setting(on, found[name].place)
    return Setting(False, Place("default", "", "torch"))

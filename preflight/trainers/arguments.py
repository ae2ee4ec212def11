"""Reads the arguments of a training script (transformers' Trainer, TRL, a loop of somebody's own) without running it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from preflight.errors import Problem, raise_if_any
from preflight.launch import LaunchCommand, Origin, ScriptFacts
from preflight.libraries.resolve import Libraries
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_versions import LibraryVersions
from preflight.setting import Place, Setting
from preflight.trainers.command_line import CommandLine, Told, names_given, read_command_line
from preflight.trainers.fields import PlanFields, joined
from preflight.trainers.files import BY_SCRIPT, ArgumentFile
from preflight.trainers.hints import near_misses, unread_switches, without_what_script_decides
from preflight.trainers.kind import trainer_kind
from preflight.trainers.left_open import settled
from preflight.trainers.lookup import Given
from preflight.trainers.plan import read_plan_fields
from preflight.trainers.resolved import not_told, resolved_arguments
from preflight.trainers.script_kind import open_script, with_classes, with_reached
from preflight.trainers.script_told import with_script, words_of_shell
from preflight.trainers.trl import read_model_fields
from preflight.trainers.unknown_arguments import refused_keywords, unknown_arguments
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.scripts.python.own_parser import OwnParser
    from preflight.scripts.python.reader import ScriptReader
    from preflight.scripts.settings.script_settings import OwnEngine, ScriptSettings
    from preflight.trainers.own_subclasses import OwnTrainer


@dataclass(frozen=True)
class TrainerArguments:
    """What the training script was told, in its own words and in the plan's."""

    trainer: str | None
    """trl, transformers, plain_loop, or None where neither the script nor its flags tell."""
    raw: Mapping[str, Setting] = field(default_factory=dict)
    """What was given: argument in underscore spelling -> value in its type; the script's own flags as text."""
    arguments: Mapping[str, Setting] = field(default_factory=dict)
    """The Trainer's arguments with the library's defaults (place kind `default`); only what was given where the
    script makes its arguments object itself or fills it with what only running tells, and nothing without a Trainer."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Plan field -> value, given or (place kind `default`) by default. A load_dtype of None is the checkpoint's own."""
    origins: Mapping[str, Origin] = field(default_factory=dict)
    """Plan field -> where its value comes from, for every field of `settings` and for `trainer`."""
    defaults: Mapping[str, tuple[Any, Origin]] = field(default_factory=dict)
    """The part of `settings` that nobody gave."""
    places: Mapping[str, tuple[Place, ...]] = field(default_factory=dict)
    """Plan field -> every place that says it, the deciding one first."""
    environment: Mapping[str, Setting] = field(default_factory=dict)
    """Variables that TrlParser exports inside every worker."""
    notices: tuple[Problem, ...] = ()
    documents: Mapping[str, str] = field(default_factory=dict)
    """`trainer` -> the argument file's path."""
    libraries: tuple[str, ...] = ()
    """Libraries beside transformers and the trainer's own whose releases decide what it holds: TRL under axolotl."""
    method: str | None = None
    """Which of TRL's trainers it is: sft, dpo, grpo, ..."""
    own: OwnTrainer | None = None
    """The trainer of the script's repository that stands on one of TRL's, where it holds otherwise and is the only one."""
    module: str = ""
    """The library's module that trains, where it is no script; `TrainerFacts.module`."""
    classes: frozenset[str] | None = None
    """Classes of transformers and TRL that surely read the arguments and train; `TrainerFacts.classes`."""
    is_here: bool = True
    """Whether the script is a library's, or was found and read; of another one its flags alone speak, and no default
    of a trainer is sure."""
    is_sure: bool = True
    """Whether the arguments surely reach the library's class, and not one of the script's own that has their names."""
    has_sure_defaults: bool = True
    """Whether its defaults hold too: their release is named, or they are the same in all of them."""
    script: ScriptFacts = field(default_factory=ScriptFacts)
    """What is known of the script itself, but for its place in the command."""
    engine: OwnEngine | None = None
    """The engine that the script sets up itself, without a Trainer, and the ranks that it starts."""
    reader: ScriptReader | None = field(default=None, compare=False)
    """The script as it was read for this command line; None where nothing of it is worth reading."""
    library_versions: Libraries | None = field(default=None, compare=False)
    """What is known of the releases of the launch's libraries, where the script was read with it."""
    under: Callable[[Libraries], TrainerArguments] | None = field(default=None, compare=False)
    """Gives the same under other versions of the libraries; None where no default of theirs was asked."""

    def changed_by(
        self, change: Callable[[TrainerArguments], TrainerArguments]
    ) -> TrainerArguments:
        """Return the same after a change, which holds under the other versions of the libraries too."""
        under = self.under
        after = change(self)
        return (
            after if under is None else replace(after, under=lambda others: change(under(others)))
        )

    def without_uncounted(self, names: Collection[str]) -> TrainerArguments:
        """Return the same without what the script holds of these names, which the plan counts."""
        others = {name: each for name, each in self.script.uncounted.items() if name not in names}
        return replace(self, script=replace(self.script, uncounted=others))


def read_trainer_arguments(
    argv: Sequence[str],
    first_index: int,
    command: LaunchCommand,
    libraries: Libraries,
    script: str | None = None,
    not_its_own: frozenset[int] = frozenset(),
) -> TrainerArguments:
    """Return what the words behind the training script say.

    `first_index` is where they start in the whole argv; `libraries` are those that it will
    have; `not_its_own` are argv indices of words that go to the launcher. Raises BadInput with every problem of the
    flags and the argument file at once.
    """
    line = CommandLine(tuple(argv), first_index, command, libraries, script, not_its_own)
    kind = trainer_kind(script, names_given(line.words, command), command)
    opened = open_script(kind, command, script)
    kind = with_classes(kind, None if opened is None else opened[0])
    told = read_command_line(line, kind, opened)
    if opened is not None and told.script is not None:
        reached = with_reached(kind, opened[0])
        told = told if reached is kind else read_command_line(line, reached, opened)
    if opened is None:
        return _arguments(told, None, script)
    return replace(_arguments(told, opened[1], script), reader=opened[0])


def arguments_of(given: Given) -> TrainerArguments:
    """Return what the trainer of a framework is told by its arguments, which the framework makes itself."""
    return _arguments(Told(given, None, None, True, Problems()), None, None)


def _arguments(told: Told, own: OwnParser | None, script: str | None) -> TrainerArguments:
    """Return the trainer's arguments with what the script says of them; raise BadInput with every problem."""
    as_given, said, file, is_exact, problems = told

    def under(others: Libraries) -> TrainerArguments:
        other = replace(as_given, versions=LibraryVersions(others))
        given, unread = _with_told(other, said).value
        fields = _fields(given).value
        settled_fields = _settled(given, fields, script, said, unread).value
        result = _result(given, settled_fields, file, (), not_told(said, unread))
        return replace(result, engine=None if said is None else said.engine)

    given, unread = problems.take(_with_told(as_given, said))
    fields = problems.take(_fields(given))
    if own is not None and is_exact:
        problems.extend(unknown_arguments(given, own, script or "", file))
    mentioned = {problem.where for problem in problems}
    if said is not None and is_exact:
        problems.extend(refused_keywords(said.refused))
    problems.extend(near_misses(given, own.declared if own is not None else (), mentioned))
    problems.extend(unread_switches(given, fields))
    fields = problems.take(_settled(given, fields, script, said, unread))
    notices = Reading(None, tuple(problems))
    notices = notices.stopping_nothing() if given.kind.is_guess else notices
    raise_if_any(notices.problems)
    result = _result(given, fields, file, notices.problems, not_told(said, unread))
    return replace(result, under=under, engine=None if said is None else said.engine)


def _with_told(
    given: Given, told: ScriptSettings | None
) -> Reading[tuple[Given, Mapping[str, Place]]]:
    """Return what was given with what the script says itself, and where what only running tells is set: by the script, or
    by words that only a shell knows."""
    given, of_shell = words_of_shell(given, told)
    if told is None:
        return Reading((given, of_shell))
    reading = with_script(given, told)
    with_told, unread = reading.value
    return Reading((with_told.without(of_shell), {**unread, **of_shell}), reading.problems)


def _fields(given: Given) -> Reading[PlanFields]:
    problems = Problems()
    parts = problems.take(read_plan_fields(given)), problems.take(read_model_fields(given))
    return Reading(joined(*parts), tuple(problems))


def _settled(
    given: Given,
    fields: PlanFields,
    script: str | None,
    told: ScriptSettings | None,
    unread: Mapping[str, Place],
) -> Reading[PlanFields]:
    if told is not None:
        return settled(given, fields, told, unread)
    reading = without_what_script_decides(given, fields, script)
    if not unread:
        return reading
    from preflight.scripts.settings.script_settings import ScriptSettings

    left_open = settled(given, reading.value, ScriptSettings(), unread)
    return Reading(left_open.value, (*reading.problems, *left_open.problems))


def _result(
    given: Given,
    fields: PlanFields,
    file: ArgumentFile | None,
    notices: tuple[Problem, ...],
    unread: Collection[str] | None,
) -> TrainerArguments:
    kind = given.kind
    inferred = {name: how for name, how in fields.inferred.items() if name in fields.settings}
    settings = {
        name: Setting(value, _default_place(origin))
        for name, (value, origin) in fields.defaults.items()
    }
    settings.update(fields.settings)
    origins = {name: origin for name, (_, origin) in fields.defaults.items()}
    for name, setting in fields.settings.items():
        others, why = fields.unsure.get(name, ((), inferred.get(name, "")))
        origins[name] = Origin(setting.place.where, bool(others), why, others)
    if kind.trainer is not None:
        where = "a guess from its flags" if kind.is_guess else kind.because
        reason = f"the script could not tell: {kind.because}" if kind.is_guess else ""
        origins["trainer"] = Origin(where, assumed=kind.is_guess, reason=reason)
    return TrainerArguments(
        trainer=kind.trainer,
        raw={**given.others, **given.known},
        arguments=resolved_arguments(given, fields, unread),
        settings=settings,
        origins=origins,
        defaults=fields.defaults,
        places=fields.places,
        environment={**(file.environment if file else {}), **fields.environment},
        notices=notices,
        documents={"trainer": file.path} if file else {},
        method=kind.trl_script,
        own=kind.own[0] if len(kind.own) == 1 else None,
        classes=kind.classes,
        module=kind.module,
        is_here=bool(kind.text or kind.module) or kind.is_own_script,
        is_sure=kind.is_sure,
        # Of transformers' defaults for precision, batch and checkpointing none has moved; of TRL's some have.
        has_sure_defaults=kind.is_sure
        and (not given.has_trl_arguments or given.versions.is_known("trl")),
        script=replace(
            fields.script,
            is_of_library=kind.is_own_script or bool(kind.module),
            inferred=tuple(inferred),
            reads_only_a_file=file is not None and file.given_by == BY_SCRIPT,
        ),
    )


def _default_place(origin: Origin) -> Place:
    """Return the place of a default; its key is the library's name."""
    return Place("default", "", origin.where.removeprefix("default of ").partition(" ")[0])

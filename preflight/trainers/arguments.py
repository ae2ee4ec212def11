"""Reads the arguments of a training script (transformers' Trainer, TRL, a loop of somebody's own) without running it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.load import read_document
from preflight.launch import LaunchCommand, Origin, ScriptFacts
from preflight.libraries.resolve import Libraries
from preflight.plan_choices import HF_TRAINERS
from preflight.reading import Problems, Reading
from preflight.scripts.no_command_line import unheard_flags
from preflight.scripts.trainer_tables import ArgumentTable, argument_table, table_of_classes
from preflight.scripts.trainer_versions import LibraryVersions
from preflight.setting import Place, Setting
from preflight.trainers.argv import ParsedArgv, ParserRules, parse_argv
from preflight.trainers.fields import PlanFields, joined
from preflight.trainers.files import (
    BY_CONFIG,
    BY_SCRIPT,
    BY_WORD,
    ArgumentFile,
    read_argument_file,
)
from preflight.trainers.hints import near_misses, unread_switches, without_what_script_decides
from preflight.trainers.kind import TrainerKind, trainer_kind
from preflight.trainers.lookup import Given
from preflight.trainers.plan import read_plan_fields
from preflight.trainers.resolved import resolved_arguments
from preflight.trainers.script_told import (
    open_script,
    script_told,
    settled,
    with_classes,
    with_script,
)
from preflight.trainers.trl import read_model_fields
from preflight.trainers.unknown_arguments import refused_keywords, unknown_arguments
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.scripts.reader import ScriptReader
    from preflight.scripts.script_settings import OwnEngine, ScriptSettings


@dataclass(frozen=True)
class TrainerArguments:
    """What the training script was told, in its own words and in the plan's."""

    trainer: str | None
    """trl, transformers, plain_loop, or None where neither the script nor its flags tell."""
    raw: Mapping[str, Setting] = field(default_factory=dict)
    """What was given: argument in underscore spelling -> value in its type; the script's own flags as text."""
    arguments: Mapping[str, Setting] = field(default_factory=dict)
    """The Trainer's arguments with the library's defaults (place kind `default`); only what was given where the
    script makes its arguments object itself, and nothing without a Trainer."""
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
    under: Callable[[Libraries], TrainerArguments] | None = field(default=None, compare=False)
    """Gives the same under other versions of the libraries; None where no default of theirs was asked."""


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
    words = list(argv)
    kind = trainer_kind(script, _names(words, command), command)
    opened = open_script(kind, command, script)
    kind = with_classes(kind, None if opened is None else opened[0])
    versions = LibraryVersions(libraries)
    table = _table(kind)
    is_exact = versions.is_tabled("transformers") and (
        kind.trainer != "trl" or versions.is_tabled("trl")
    )
    problems = Problems()
    unheard = None
    if kind.text and script is not None and not kind.is_own_script:
        unheard = unheard_flags(words, command, script)
    if unheard is not None:
        problems.append(unheard)
        words = []
    rules = ParserRules(
        is_complete=kind.is_own_script and is_exact,
        is_exact=is_exact,
        is_sure=kind.is_own_script or _has_trainers_parser(kind.text),
        abbreviates=kind.trainer in HF_TRAINERS and _may_take_prefixes(kind.text),
    )
    file, rest = problems.take(_argument_file(words, first_index, command, table, kind, rules))
    rest = [(index, word) for index, word in rest if index not in not_its_own]
    own = opened[1] if opened is not None else None
    parsed = parse_argv(rest, table, rules, own)
    problems.extend(parsed.problems)
    as_given = _given(kind, table, versions, file, parsed, command.declared_flags)
    unread_file = None
    if file is None and opened is not None:
        file, unread_file = problems.take(_script_file(as_given, opened[0], rules))
        as_given = _given(kind, table, versions, file, parsed, command.declared_flags)
    told = script_told(as_given, opened[0], unread_file) if opened is not None else None

    def under(others: Libraries) -> TrainerArguments:
        other = replace(as_given, versions=LibraryVersions(others))
        given, unread = _with_told(other, told).value
        fields = _fields(given).value
        result = _result(given, _settled(given, fields, script, told, unread).value, file, ())
        return replace(result, engine=None if told is None else told.engine)

    given, unread = problems.take(_with_told(as_given, told))
    fields = problems.take(_fields(given))
    if own is not None and is_exact:
        problems.extend(unknown_arguments(given, own, script or "", file))
    mentioned = {problem.where for problem in problems}
    if told is not None and is_exact:
        problems.extend(refused_keywords(told.refused))
    problems.extend(near_misses(given, own.declared if own is not None else (), mentioned))
    problems.extend(unread_switches(given, fields))
    fields = problems.take(_settled(given, fields, script, told, unread))
    raise_if_any(problems)
    result = _result(given, fields, file, tuple(problems))
    return replace(result, under=under, engine=None if told is None else told.engine)


def _with_told(
    given: Given, told: ScriptSettings | None
) -> Reading[tuple[Given, Mapping[str, Place]]]:
    return Reading((given, {})) if told is None else with_script(given, told)


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
    if told is None:
        return without_what_script_decides(given, fields, script)
    return settled(given, fields, told, unread)


def _table(kind: TrainerKind) -> ArgumentTable:
    """Return the arguments that the script's parser may have from its libraries."""
    if kind.trainer == "trl" and kind.arguments_library == "transformers":
        names = [name.rpartition(".")[2] for name in kind.classes or ()]
        return table_of_classes(kind.trl_script or "sft", names)
    table = argument_table(kind.trl_script if kind.trainer == "trl" else None)
    if kind.trainer in HF_TRAINERS:
        return table
    return ArgumentTable({}, table.versions)  # nothing is known of its parser


def _may_take_prefixes(text: str) -> bool:
    """Tell whether a prefix of a Trainer's argument can mean it: not where the script has a parser of its own."""
    return not text or _has_trainers_parser(text)


def _has_trainers_parser(text: str) -> bool:
    return re.search(r"\b(?:HfArgumentParser|H4ArgumentParser|TrlParser)\b", text) is not None


def _names(words: list[str], command: LaunchCommand) -> Iterator[str]:
    """Yield the names of flags, then those of the argument file, which is read only where somebody asks so far."""
    yield from _flag_names(words)
    yield from _config_keys(words, command)


def _flag_names(words: list[str]) -> list[str]:
    return [
        word.lstrip("-").partition("=")[0].replace("-", "_")
        for word in words
        if word.startswith("--") and len(word) > 2
    ]


def _config_keys(words: list[str], command: LaunchCommand) -> list[str]:
    """Return the keys of the argument file: they tell the trainer as flags do."""
    path = words[words.index("--config") + 1] if "--config" in words[:-1] else "".join(words[:1])
    if not re.search(r"\.(json|ya?ml)$", path) or not command.exists(path):
        return []
    try:
        return [str(key) for key in read_document(command, path).value]
    except BadInput:
        return []  # said with its line when the file is read as an argument file


def _argument_file(
    words: list[str],
    first_index: int,
    command: LaunchCommand,
    table: ArgumentTable,
    kind: TrainerKind,
    rules: ParserRules,
) -> Reading[tuple[ArgumentFile | None, list[tuple[int, str]]]]:
    """Return the argument file, and the words that are left with their index in the whole argv."""
    rest = [(first_index + position, word) for position, word in enumerate(words)]

    def read(
        path: str, stated_at: str, given_by: str, left: list[tuple[int, str]]
    ) -> Reading[tuple[ArgumentFile | None, list[tuple[int, str]]]]:
        reading = read_argument_file(
            path,
            stated_at,
            command,
            table,
            given_by=given_by,
            is_complete=rules.is_complete,
            is_exact=rules.is_exact,
        )
        return Reading((reading.value, left), reading.problems)

    # A script that cannot be read here may well use TrlParser, which is where --config comes from.
    reads_config = kind.uses_trl_parser or (not kind.text and kind.trainer is not None)
    if reads_config and "--config" in words[:-1]:
        position = words.index("--config")
        left = rest[:position] + rest[position + 2 :]
        return read(words[position + 1], "--config", BY_CONFIG, left)
    if words and re.search(r"\.(json|ya?ml)$", words[0]) and command.exists(words[0]):
        return read(words[0], words[0], BY_WORD, rest[1:])
    return Reading((None, rest))


def _script_file(
    given: Given, reader: ScriptReader, rules: ParserRules
) -> Reading[tuple[ArgumentFile | None, Place | None]]:
    """Return the file that the script gives its parser itself; or where it does, if that file cannot be read from here."""
    from preflight.scripts.parsed_file import parsed_file

    parsed = parsed_file(reader, given.told)
    if parsed is None:
        return Reading((None, None))
    if parsed.path is None or not reader.command.exists(parsed.path):
        return Reading((None, parsed.call))
    reading = read_argument_file(
        parsed.path,
        parsed.call.where,
        reader.command,
        given.table,
        given_by=BY_SCRIPT,
        is_complete=rules.is_complete,
        is_exact=rules.is_exact,
    )
    return Reading((reading.value, None), reading.problems)


def _given(
    kind: TrainerKind,
    table: ArgumentTable,
    versions: LibraryVersions,
    file: ArgumentFile | None,
    parsed: ParsedArgv,
    declared: Mapping[str, str],
) -> Given:
    """Join file and command line: a flag beats the file."""
    known, others = dict(parsed.known), dict(parsed.unknown)
    earlier = {name: tuple(reversed(places)) for name, places in parsed.earlier.items()}
    for own, of_file in (
        (known, file.known if file else {}),
        (others, file.unknown if file else {}),
    ):
        for name, setting in of_file.items():
            if name in own:
                earlier[name] = (*earlier.get(name, ()), setting.place)
            else:
                own[name] = setting
    words = [Setting(word, Place("argv", "", word, index=i)) for i, word in parsed.positionals]
    if file is not None and file.given_by == BY_WORD:
        words.insert(0, Setting(file.path, Place("argv", "", file.path)))
    return Given(kind, table, versions, known, others, earlier, declared, tuple(words))


def _result(
    given: Given,
    fields: PlanFields,
    file: ArgumentFile | None,
    notices: tuple[Problem, ...],
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
        origins[name] = Origin(setting.place.where, reason=inferred.get(name, ""))
    if kind.trainer is not None:
        where = "a guess from its flags" if kind.is_guess else kind.because
        reason = f"the script could not tell: {kind.because}" if kind.is_guess else ""
        origins["trainer"] = Origin(where, assumed=kind.is_guess, reason=reason)
    return TrainerArguments(
        trainer=kind.trainer,
        raw={**given.others, **given.known},
        arguments=resolved_arguments(given, fields),
        settings=settings,
        origins=origins,
        defaults=fields.defaults,
        places=fields.places,
        environment={**(file.environment if file else {}), **fields.environment},
        notices=notices,
        documents={"trainer": file.path} if file else {},
        method=kind.trl_script,
        classes=kind.classes,
        is_here=bool(kind.text) or kind.is_own_script,
        is_sure=kind.is_sure,
        # Of transformers' defaults for precision, batch and checkpointing none has moved; of TRL's some have.
        has_sure_defaults=kind.is_sure
        and (not given.has_trl_arguments or given.versions.is_known("trl")),
        script=replace(
            fields.script,
            is_of_library=kind.is_own_script,
            inferred=tuple(inferred),
            reads_only_a_file=file is not None and file.given_by == BY_SCRIPT,
        ),
    )


def _default_place(origin: Origin) -> Place:
    """Return the place of a default; its key is the library's name."""
    return Place("default", "", origin.where.removeprefix("default of ").partition(" ")[0])

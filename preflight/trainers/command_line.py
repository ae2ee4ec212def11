"""The words behind a training script as its parser takes them: flags, an argument file, and the script's own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from preflight.errors import BadInput
from preflight.formats.load import read_document
from preflight.formats.missing import no_config
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.libraries.resolve import Libraries
from preflight.plan_choices import HF_TRAINERS
from preflight.reading import Problems, Reading
from preflight.scripts.arguments.trainer_tables import (
    ArgumentTable,
    argument_table,
    table_of_classes,
)
from preflight.scripts.arguments.trainer_versions import LibraryVersions
from preflight.setting import Place, Setting
from preflight.trainers.argv import ParsedArgv, ParserRules, parse_argv
from preflight.trainers.files import BY_CONFIG, BY_SCRIPT, BY_WORD, ArgumentFile, read_argument_file
from preflight.trainers.hints import without_unread
from preflight.trainers.kind import TrainerKind
from preflight.trainers.lookup import Given
from preflight.trainers.script_told import script_told
from preflight.values import NamedTuple, dataclass

if TYPE_CHECKING:
    from preflight.scripts.python.own_parser import OwnParser
    from preflight.scripts.python.reader import ScriptReader
    from preflight.scripts.settings.script_settings import ScriptSettings
    from preflight.trainers.flag_files import FlagFiles


class Told(NamedTuple):
    """What a command line says to a script of one kind, with what that script says itself."""

    given: Given
    script: ScriptSettings | None
    file: ArgumentFile | None
    is_exact: bool
    problems: Problems


@dataclass(frozen=True)
class CommandLine:
    """The words behind a training script, and where they stand."""

    words: tuple[str, ...]
    first_index: int
    """Of the words in the whole argv."""
    command: LaunchCommand
    libraries: Libraries
    script: str | None
    not_its_own: frozenset[int]
    """Indices in the whole argv of words that go to the launcher."""


def read_command_line(
    line: CommandLine, kind: TrainerKind, opened: tuple[ScriptReader, OwnParser] | None
) -> Told:
    """Return what a command line says, in the arguments that a script of this kind has."""
    words, command = list(line.words), line.command
    versions = LibraryVersions(line.libraries)
    table = _table(kind)
    is_exact = versions.is_tabled("transformers") and (
        kind.trainer != "trl" or versions.is_tabled("trl")
    )
    problems = Problems()
    unheard = None
    if kind.text and line.script is not None and not kind.is_own_script:
        from preflight.scripts.python.no_command_line import unheard_flags

        unheard = unheard_flags(words, command, line.script)
    if unheard is not None:
        problems.append(unheard)
        words = []
    has_parser = _has_trainers_parser(kind.text)
    if opened is not None and not has_parser:  # a class of the script's own that stands on one
        has_parser = any(each.name in opened[0].dataclass_parsers for each in opened[0].everywhere)
    rules = ParserRules(
        is_complete=kind.is_own_script and is_exact,
        is_exact=is_exact,
        is_sure=kind.is_own_script or has_parser,
        abbreviates=kind.trainer in HF_TRAINERS and (has_parser or not kind.text),
    )
    files = problems.take(_flag_files(words, line, kind, rules))
    named = frozenset() if files is None else files.not_words
    reader = None if opened is None else opened[0]
    file, rest = problems.take(
        _argument_file(words, line.first_index, command, table, kind, rules, reader)
    )
    not_its_own = line.not_its_own | {line.first_index + position for position in named}
    rest = [(index, word) for index, word in rest if index not in not_its_own]
    own = opened[1] if opened is not None else None
    parsed = parse_argv(rest, table, rules, own)
    if files is not None:
        from preflight.trainers.flag_files import behind

        of_files = [(index, word) for index, (_, _, word) in enumerate(files.words)]
        parsed = behind(parsed, parse_argv(of_files, table, rules, own), files)
    problems.extend(parsed.problems)
    as_given = _given(kind, table, versions, file, parsed, command.declared_flags)
    unread_file = None
    if file is None and opened is not None:
        file, unread_file = problems.take(_script_file(as_given, opened[0], rules))
        if file is not None:
            as_given = _given(kind, table, versions, file, parsed, command.declared_flags)
        elif rules.is_sure and words and _NAMES_FILE.search(words[0]):
            unread_file = Place("yaml", words[0], "")
            missing = no_config(command, words[0], "argument file", words[0], "")
            problems.append(replace(missing, severity="warning"))
    if opened is not None:
        as_given = problems.take(without_unread(as_given, *opened, rules.is_sure))
    told = script_told(as_given, opened[0], unread_file) if opened is not None else None
    return Told(as_given, told, file, is_exact, problems)


def _flag_files(
    words: Sequence[str], line: CommandLine, kind: TrainerKind, rules: ParserRules
) -> Reading[FlagFiles | None]:
    """Return the files of flags that the script's parser puts in front of its words; None where there is none."""
    script = line.script
    if script is None or not kind.text or not rules.is_sure or kind.is_own_script:
        return Reading(None)
    if "args_file" not in kind.text and not line.command.exists(
        f"{os.path.splitext(script)[0]}.args"
    ):
        return Reading(None)
    from preflight.trainers.flag_files import flag_files  # few launches have any

    return flag_files(words, line.command, script, kind.text)


_NAMES_FILE = lazy_pattern(r"\.(json|ya?ml)$")


def _table(kind: TrainerKind) -> ArgumentTable:
    """Return the arguments that the script's parser may have from its libraries."""
    if kind.trainer == "trl" and kind.arguments_library == "transformers":
        names = [name.rpartition(".")[2] for name in kind.classes or ()]
        return table_of_classes(kind.trl_script or "sft", names)
    table = argument_table(kind.trl_script if kind.trainer == "trl" else None)
    if kind.trainer in HF_TRAINERS:
        return table
    return ArgumentTable({}, table.versions)  # nothing is known of its parser


_MAKES_PARSER = lazy_pattern(
    r"(?m)^(?!\s*(?:from|import)\b(?!.*\bas\b)|[\w\s,]*\)?\s*$).*\b(?:HfArgumentParser|H4ArgumentParser|TrlParser)\b"
)
"""A parser of the Trainer's arguments that is used, or imported under another name."""


def _has_trainers_parser(text: str) -> bool:
    return _MAKES_PARSER.search(text) is not None


def names_given(words: Sequence[str], command: LaunchCommand) -> Iterator[str]:
    """Yield the names of flags, then those of the argument file, which is read only where somebody asks so far."""
    yield from _flag_names(words)
    yield from _config_keys(words, command)


def _flag_names(words: Sequence[str]) -> list[str]:
    return [
        word.lstrip("-").partition("=")[0].replace("-", "_")
        for word in words
        if word.startswith("--") and len(word) > 2
    ]


def _config_keys(words: Sequence[str], command: LaunchCommand) -> list[str]:
    """Return the keys of the argument file: they tell the trainer as flags do."""
    path = words[words.index("--config") + 1] if "--config" in words[:-1] else "".join(words[:1])
    if not _NAMES_FILE.search(path) or not command.exists(path):
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
    reader: ScriptReader | None,
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
            reader=reader,
        )
        return Reading((reading.value, left), reading.problems)

    # A script that cannot be read here may well use TrlParser, which is where --config comes from.
    reads_config = kind.uses_trl_parser or (not kind.text and kind.trainer is not None)
    if reads_config and "--config" in words[:-1]:
        position = words.index("--config")
        left = rest[:position] + rest[position + 2 :]
        return read(words[position + 1], "--config", BY_CONFIG, left)
    if words and _NAMES_FILE.search(words[0]) and command.exists(words[0]):
        return read(words[0], words[0], BY_WORD, rest[1:])
    return Reading((None, rest))


def _script_file(
    given: Given, reader: ScriptReader, rules: ParserRules
) -> Reading[tuple[ArgumentFile | None, Place | None]]:
    """Return the file that the script gives its parser itself; or where it does, if that file cannot be read from here."""
    from preflight.scripts.python.parsed_file import parsed_file

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
        reader=reader,
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

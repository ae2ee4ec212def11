"""A training script's command line, split into settings as HfArgumentParser (argparse) splits it, with places."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, NamedTuple

from preflight.errors import Problem
from preflight.scripts.own_parser import MANY, NONE, OwnOption, OwnParser
from preflight.scripts.trainer_spellings import argument_fix
from preflight.scripts.trainer_tables import Argument, ArgumentTable
from preflight.scripts.trainer_values import NotConverted, Written, from_text
from preflight.setting import Place, Setting
from preflight.values import dataclass

_NEGATIVE_NUMBER = re.compile(r"-\d+$|-\d*\.\d+$")


class ParserRules(NamedTuple):
    """How sure we are that the script's parser is the one of the table."""

    is_complete: bool = False
    """True for TRL's own scripts: a flag that the table does not have is an error."""
    is_exact: bool = True
    """The installed libraries are the versions of the table: what their argparse refuses is an error."""
    abbreviates: bool = True
    """False for a script of its own: a prefix there is not one of our arguments."""


@dataclass
class ParsedArgv:
    """What the words behind the script say; filled while parsing, read by nobody before the end."""

    known: dict[str, Setting] = field(default_factory=dict)
    unknown: dict[str, Setting] = field(default_factory=dict)
    """The script's own flags, underscore spelling; a flag without a value is True."""
    earlier: dict[str, list[Place]] = field(default_factory=dict)
    """Places of the same argument that a later one overrides."""
    positionals: list[tuple[int, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def parse_argv(
    argv: Sequence[str],
    first_index: int,
    table: ArgumentTable,
    rules: ParserRules,
    own: OwnParser | None = None,
) -> ParsedArgv:
    """Return the settings of a command line. Problems are collected, never raised.

    `own` is what the script declares itself: its options are read as it says, whatever the table has.
    """
    parsed = ParsedArgv()
    options: Mapping[str, Any] = {**table.options, **(own.options if own is not None else {})}
    words = list(argv)
    ends_at = words.index("--") if "--" in words else len(words)

    def is_option(word: str) -> bool:
        if not word.startswith("-") or len(word) == 1:
            return False
        if word in options or word.partition("=")[0] in options:
            return True
        return not _NEGATIVE_NUMBER.match(word) and " " not in word

    position = 0
    while position < len(words):
        word = words[position]
        index = first_index + position
        position += 1
        if position > ends_at or not is_option(word):
            if position - 1 != ends_at:
                parsed.positionals.append((index, word))
            continue
        flag, has_value, explicit = word.partition("=")
        values: list[str] = []
        end = position
        while end < ends_at and not is_option(words[end]):
            values.append(words[end])
            end += 1
        mine = _own_option(flag, own, table)
        if mine is not None:
            place = Place("argv", "", flag, index=index)
            position += _take_own(
                mine, explicit if has_value else None, values, place, table, parsed
            )
            continue
        match = table.options.get(flag)
        if match is None and (own is None or own.names is None):
            match = _abbreviated(flag, table, rules, parsed)
        elif match is None and own is not None:
            match = _abbreviated(flag, table.only(own.names), rules, parsed)
        if match is None:
            taken = _take_unknown(flag, explicit if has_value else None, values, index, parsed)
            position += taken
            continue
        argument, is_negated = match
        place = Place("argv", "", flag, index=index)
        if is_negated:
            if has_value:
                parsed.problems.append(Problem(f"{flag} takes no value, not {explicit!r}", flag))
            _store(parsed, argument, Setting(False, place))
        elif has_value:
            _convert(parsed, argument, [explicit], place, rules)
        else:
            wanted = values if argument.is_list else values[:1]
            position += len(wanted)
            _convert(parsed, argument, wanted, place, rules)
    return parsed


def _convert(
    parsed: ParsedArgv, argument: Argument, texts: list[str], place: Place, rules: ParserRules
) -> None:
    flag = place.key
    if not texts:
        if argument.kind in ("flag", "optional_str"):
            _store(parsed, argument, Setting(True, place))
        elif argument.kind == "bool" and not rules.is_exact:
            # Older versions declare some of these as plain switches.
            _store(parsed, argument, Setting(True, place))
        else:
            fix = (
                f"write {flag} true: this library version has no default for it, so argparse wants a value"
                if argument.kind == "bool"
                else ""
            )
            parsed.problems.append(Problem(f"{flag} needs a value", flag, fix))
        return
    written = Written(flag, flag, "error" if rules.is_exact else "warning")
    values: list[Any] = []
    for text in texts:
        try:
            value, notes = from_text(argument, text, written)
        except NotConverted as error:
            parsed.problems.append(error.problem)
            return
        parsed.problems.extend(notes)
        if any(note.severity == "error" for note in notes):
            return
        values.append(value)
    _store(parsed, argument, Setting(values if argument.is_list else values[0], place))


def _store(parsed: ParsedArgv, argument: Argument, setting: Setting) -> None:
    before = parsed.known.get(argument.name)
    if before is not None:
        parsed.earlier.setdefault(argument.name, []).append(before.place)
    parsed.known[argument.name] = setting


def _take_unknown(
    flag: str, explicit: str | None, values: list[str], index: int, parsed: ParsedArgv
) -> int:
    """Keep a flag of the script's own as text; return how many words behind it belong to it."""
    name = flag.lstrip("-").replace("-", "_")
    value: Any = True
    taken = 0
    if explicit is not None:
        value = explicit
    elif values:
        # The script's parser is not known: one word is a value, more are a list.
        value = values[0] if len(values) == 1 else list(values)
        taken = len(values)
    before = parsed.unknown.get(name)
    if before is not None:
        parsed.earlier.setdefault(name, []).append(before.place)
    parsed.unknown[name] = Setting(value, Place("argv", "", flag, index=index))
    return taken


def _own_option(flag: str, own: OwnParser | None, table: ArgumentTable) -> OwnOption | None:
    """Return the script's own option that a flag, or a prefix that only one argument of its parser has, stands for."""
    if own is None or flag in own.options:
        return None if own is None else own.options[flag]
    if own.names is None or not flag.startswith("--") or flag in table.options:
        return None
    mine = {option.name: option for text, option in own.options.items() if text.startswith(flag)}
    others = {
        match[0].name
        for text, match in table.only(own.names).options.items()
        if text.startswith(flag)
    }
    return next(iter(mine.values())) if len(mine) == 1 and not others - mine.keys() else None


def _take_own(
    option: OwnOption,
    explicit: str | None,
    values: list[str],
    place: Place,
    table: ArgumentTable,
    parsed: ParsedArgv,
) -> int:
    """Keep an option of the script's own; return how many words behind it belong to it."""
    wanted = {NONE: 0, MANY: len(values)}.get(option.takes, 1)
    texts = [explicit] if explicit is not None else values[:wanted]
    value: Any = option.bare
    if texts:
        value = texts if option.takes == MANY else texts[0]
    argument = table.arguments.get(option.name)
    settings: dict[str, Setting] = parsed.unknown
    if argument is not None:
        converted = _as_argument(argument, value, place)
        if converted is not None:
            settings, value = parsed.known, converted
    before = settings.get(option.name)
    if before is not None:
        parsed.earlier.setdefault(option.name, []).append(before.place)
    settings[option.name] = Setting(value, place)
    return 0 if explicit is not None else len(texts)


def _as_argument(argument: Argument, value: Any, place: Place) -> Any:
    """Return a value of the script's own option as the Trainer's argument of that name; None where it is none."""
    if not isinstance(value, (str, list)):
        return value
    try:
        items = value if isinstance(value, list) else [value]
        read = [from_text(argument, text, Written(place.key, place.key)) for text in items]
    except NotConverted:
        return None
    if any(note.severity == "error" for _, notes in read for note in notes):
        return None
    converted = [item for item, _ in read]
    return converted if argument.is_list else converted[0] if len(converted) == 1 else None


def _abbreviated(
    flag: str, table: ArgumentTable, rules: ParserRules, parsed: ParsedArgv
) -> tuple[Argument, bool] | None:
    """Return the argument that a prefix stands for, as argparse's allow_abbrev finds it."""
    if not rules.abbreviates or not flag.startswith("--") or len(flag) < 4:
        return None
    matches = {
        (match[0].name, match[1]): match
        for option, match in table.options.items()
        if option.startswith(flag)
    }
    if len(matches) != 1:
        if rules.is_complete:
            parsed.problems.append(_unknown_flag(flag, table, sorted(name for name, _ in matches)))
        return None
    match = next(iter(matches.values()))
    parsed.problems.append(
        Problem(
            f"{flag} is read as --{match[0].name}: argparse takes an unambiguous prefix",
            flag,
            "write the whole flag: a new version may add another one with this prefix",
            severity="info",
        )
    )
    return match


def _unknown_flag(flag: str, table: ArgumentTable, candidates: list[str]) -> Problem:
    if candidates:
        shown = ", ".join(f"--{name}" for name in candidates)
        return Problem(f"{flag} could be several flags", flag, f"write one of {shown}", "PF123")
    fix = argument_fix(flag.lstrip("-"), table.arguments).replace("you mean ", "you mean --")
    return Problem(f"the script does not know {flag}", flag, fix, "PF123")

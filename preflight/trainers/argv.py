"""A training script's command line, split into settings as HfArgumentParser (argparse) splits it, with places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preflight.errors import Problem
from preflight.lazy_pattern import lazy_pattern
from preflight.reading import Problems
from preflight.scripts.arguments.trainer_spellings import argument_fix
from preflight.scripts.arguments.trainer_tables import Argument, ArgumentTable
from preflight.scripts.arguments.trainer_values import NotConverted, Written, from_text
from preflight.scripts.python.own_parser import MANY, NONE, OwnOption, OwnParser
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import only_shell_knows
from preflight.values import NamedTuple, dataclass

_NEGATIVE_NUMBER = lazy_pattern(r"-\d+$|-\d*\.\d+$")


class ParserRules(NamedTuple):
    """How sure we are that the script's parser is the one of the table."""

    is_complete: bool = False
    """True for TRL's own scripts: a flag that the table does not have is an error."""
    is_exact: bool = True
    """The installed libraries are the versions of the table: what their argparse refuses is an error."""
    is_sure: bool = True
    """The parser is made of the classes of the table, as far as the script shows: what it refuses is refused."""
    abbreviates: bool = True
    """False for a script of its own: a prefix there is not one of our arguments."""


@dataclass(frozen=True)
class ParsedArgv:
    """What the words behind the script say."""

    known: Mapping[str, Setting]
    unknown: Mapping[str, Setting]
    """The script's own flags, underscore spelling; a flag without a value is True."""
    earlier: Mapping[str, tuple[Place, ...]]
    """Places of the same argument that a later one overrides."""
    positionals: tuple[tuple[int, str], ...]
    problems: tuple[Problem, ...]


def parse_argv(
    words: Sequence[tuple[int, str]],
    table: ArgumentTable,
    rules: ParserRules,
    own: OwnParser | None = None,
) -> ParsedArgv:
    """Return the settings of a command line, given as words with their argv indices. Problems are collected, never raised.

    `own` is what the script declares itself: its options are read as it says, whatever the table has.
    """
    return _Parser(table, rules, own).parse(words)


class _Parser:
    """Goes through the words once; what it has met so far is its own until it is done."""

    def __init__(self, table: ArgumentTable, rules: ParserRules, own: OwnParser | None) -> None:
        self.table, self.rules, self.own = table, rules, own
        self.options: Mapping[str, Any] = {
            **table.options,
            **(own.options if own is not None else {}),
        }
        self.known: dict[str, Setting] = {}
        self.unknown: dict[str, Setting] = {}
        self.earlier: dict[str, tuple[Place, ...]] = {}
        self.positionals: list[tuple[int, str]] = []
        self.problems = Problems()

    def parse(self, words: Sequence[tuple[int, str]]) -> ParsedArgv:
        texts = [word for _, word in words]
        ends_at = texts.index("--") if "--" in texts else len(texts)
        position = 0
        while position < len(words):
            index, word = words[position]
            position += 1
            if position > ends_at or not self._is_option(word):
                if position - 1 != ends_at:
                    self.positionals.append((index, word))
                continue
            end = position
            while end < ends_at and not self._is_option(texts[end]):
                end += 1
            position += self._take(word, texts[position:end], index)
        return ParsedArgv(
            self.known, self.unknown, self.earlier, tuple(self.positionals), tuple(self.problems)
        )

    def _is_option(self, word: str) -> bool:
        if not word.startswith("-") or len(word) == 1:
            return False
        if word in self.options or word.partition("=")[0] in self.options:
            return True
        return not _NEGATIVE_NUMBER.match(word) and " " not in word

    def _letters(self, word: str) -> list[tuple[str, str | None]]:
        """Return the options of one letter that a word is, each with the value behind it: `-b4` and `-gb4`; none of any other
        (argparse.py, _get_option_tuples and consume_optional, 3.11)."""
        options = {} if self.own is None else self.own.options
        if word[1:2] == "-" or {word, word.partition("=")[0]} & {*self.options}:
            return []
        found: list[tuple[str, str | None]] = []
        for place in range(1, len(word)):
            option = options.get(f"-{word[place]}")
            if option is None:
                return []
            behind = word[place + 1 :].removeprefix("=")
            if option.takes != NONE:
                return [*found, (f"-{word[place]}", behind or None)]
            found.append((f"-{word[place]}", None))
        return found

    def _take(self, word: str, values: list[str], index: int) -> int:
        """Keep what an option says; return how many of the values behind it are its own."""
        flag, equals, attached = word.partition("=")
        explicit = attached if equals else None
        for letter, _ in (letters := self._letters(word))[:-1]:
            self._take(letter, [], index)
        if letters:
            flag, explicit = letters[-1]
        place = Place("argv", "", flag, index=index)
        mine = _own_option(flag, self.own, self.table)
        if mine is not None:
            return self._take_own(mine, explicit, values, place)
        match = self.table.options.get(flag)
        if match is None:
            match = self._abbreviated(flag)
        if match is None:
            return self._take_unknown(explicit, values, place)
        argument, is_negated = match
        if is_negated:
            if explicit is not None:
                self.problems.append(Problem(f"{flag} takes no value, not {explicit!r}", flag))
            self._store(self.known, argument.name, Setting(False, place))
            return 0
        if explicit is not None:
            self._convert(argument, [explicit], place)
            return 0
        wanted = values if argument.is_list else values[:1]
        self._convert(argument, wanted, place)
        return len(wanted)

    def _convert(self, argument: Argument, texts: list[str], place: Place) -> None:
        flag, is_exact = place.key, self.rules.is_exact
        if not texts:
            # Older versions declare some of the bools as plain switches.
            is_switch = argument.kind == "bool" and not (is_exact and self.rules.is_sure)
            if argument.kind in ("flag", "optional_str") or is_switch:
                self._store(self.known, argument.name, Setting(True, place))
                return
            if not self.rules.is_sure:  # a switch of the script's own: DeepSpeed's --deepspeed
                self._store(self.unknown, argument.name, Setting(True, place))
                return
            fix = (
                f"write {flag} true: this library version has no default for it, so argparse wants a value"
                if argument.kind == "bool"
                else ""
            )
            self.problems.append(Problem(f"{flag} needs a value", flag, fix))
            return
        written = Written(flag, flag, "error" if is_exact else "warning")
        values: list[Any] = []
        for text in texts:
            try:
                reading = from_text(argument, text, written)
            except NotConverted as error:
                if only_shell_knows(text) and self.rules.is_sure:
                    self._store(self.known, argument.name, Setting(text, place))  # words_of_shell
                elif self.rules.is_sure:
                    self.problems.append(error.problem)
                else:  # an argument of the script's own that has the name
                    self._store(self.unknown, argument.name, Setting(text, place))
                return
            values.append(self.problems.take(reading))
            if reading.is_refused:
                return
        value = values if argument.is_list else values[0]
        self._store(self.known, argument.name, Setting(value, place))

    def _store(self, settings: dict[str, Setting], name: str, setting: Setting) -> None:
        before = settings.get(name)
        if before is not None:
            self.earlier[name] = (*self.earlier.get(name, ()), before.place)
        settings[name] = setting

    def _take_unknown(self, explicit: str | None, values: list[str], place: Place) -> int:
        """Keep a flag of the script's own as text; return how many words behind it belong to it."""
        name = place.key.lstrip("-").replace("-", "_")
        value: Any = True
        if explicit is not None:
            value = explicit
        elif values:
            # The script's parser is not known: one word is a value, more are a list.
            value = values[0] if len(values) == 1 else list(values)
        self._store(self.unknown, name, Setting(value, place))
        return 0 if explicit is not None else len(values)

    def _take_own(
        self, option: OwnOption, explicit: str | None, values: list[str], place: Place
    ) -> int:
        """Keep an option of the script's own; return how many words behind it belong to it."""
        wanted = {NONE: 0, MANY: len(values)}.get(option.takes, 1)
        texts = [explicit] if explicit is not None else values[:wanted]
        value: Any = option.bare
        if texts:
            value = texts if option.takes == MANY else texts[0]
        argument = self.table.arguments.get(option.name)
        converted = None if argument is None else _as_argument(argument, value, place)
        if converted is None:
            self._store(self.unknown, option.name, Setting(value, place))
        else:
            self._store(self.known, option.name, Setting(converted, place))
        return 0 if explicit is not None else len(texts)

    def _abbreviated(self, flag: str) -> tuple[Argument, bool] | None:
        """Return the argument that a prefix stands for, as argparse's allow_abbrev finds it."""
        if not self.rules.abbreviates or not flag.startswith("--") or len(flag) < 4:
            return None
        table = self.table.only(None if self.own is None else self.own.names)
        matches = {
            (match[0].name, match[1]): match
            for option, match in table.options.items()
            if option.startswith(flag)
        }
        if len(matches) != 1:
            if self.rules.is_complete:
                candidates = sorted(name for name, _ in matches)
                self.problems.append(_unknown_flag(flag, table, candidates))
            return None
        match = next(iter(matches.values()))
        self.problems.append(
            Problem(
                f"{flag} is read as --{match[0].name}: argparse takes an unambiguous prefix",
                flag,
                "write the whole flag: a new version may add another one with this prefix",
                severity="info",
            )
        )
        return match


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


def _as_argument(argument: Argument, value: Any, place: Place) -> Any:
    """Return a value of the script's own option as the Trainer's argument of that name; None where it is none."""
    if isinstance(value, bool) and argument.kind not in ("flag", "bool", "optional_str"):
        return None  # a switch, where the Trainer's takes a value
    if not isinstance(value, (str, list)):
        return value
    try:
        items = value if isinstance(value, list) else [value]
        read = [from_text(argument, text, Written(place.key, place.key)) for text in items]
    except NotConverted:
        return None
    if any(reading.is_refused for reading in read):
        return None
    converted = [reading.value for reading in read]
    return converted if argument.is_list else converted[0] if len(converted) == 1 else None


def _unknown_flag(flag: str, table: ArgumentTable, candidates: list[str]) -> Problem:
    if candidates:
        shown = ", ".join(f"--{name}" for name in candidates)
        return Problem(f"{flag} could be several flags", flag, f"write one of {shown}", "PF123")
    fix = argument_fix(flag.lstrip("-"), table.arguments).replace("you mean ", "you mean --")
    return Problem(f"the script does not know {flag}", flag, fix, "PF123")

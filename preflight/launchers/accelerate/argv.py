"""The command line of `accelerate launch`: recognise it, and split it into launcher options and the script's part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.launchers.accelerate import LAUNCHER
from preflight.launchers.accelerate.options import Option, options_by_flag
from preflight.near_names import nearest_fix
from preflight.setting import Place, Setting
from preflight.shell.launcher_options import (
    NODE_RANKS,
    RANK_COUNTS,
    ParsedOptions,
    converted_whole,
    stands_for,
    unset_count,
)
from preflight.shell.program_names import called, program_name


def first_option_index(argv: Sequence[str]) -> int | None:
    """Return the argv index behind `accelerate launch`, or None where this is another command."""
    first = LAUNCHER.first_argument(argv)
    if first is None:
        return None
    what = called(argv)
    assert what is not None
    takes_none = program_name(what.name) in LAUNCHER.without_subcommand
    return first if takes_none else first + 1


def parse_launcher_arguments(argv: Sequence[str], first_index: int) -> ParsedOptions:
    """Split the command as the launcher's own parser does; wrong values come back as problems."""
    flags = options_by_flag()
    given: dict[str, Setting] = {}
    problems: list[Problem] = []
    index = first_index
    while index < len(argv):
        word = argv[index]
        if word == "--":
            index += 1
            break
        if not _is_option(word, flags):
            break
        name, equals, attached = word.partition("=")
        option = flags.get(name)
        if option is None and not word.startswith("--") and len(word) > 2 and word[:2] in flags:
            option, equals, attached, name = flags[word[:2]], "=", word[2:], word[:2]
        if option is None:
            problems.append(_unknown(name, flags))
            index += 1
            continue
        place = Place("argv", "", name, index=index)
        if option.kind in ("flag", "unset"):
            if equals:
                problems.append(
                    Problem(
                        f"{name} takes no value, but got {attached!r}",
                        name,
                        "drop the value",
                        "PF111",
                    )
                )
            given[option.key] = Setting(option.kind == "flag", place)
            index += 1
            continue
        index += 1
        if not equals:
            if index >= len(argv) or _is_option(argv[index], flags):
                problems.append(Problem(f"{name} needs a value", name, _wanted(option), "PF111"))
                continue
            attached = argv[index]
            index += 1
        if option.type == "int" and option.key not in NODE_RANKS and stands_for(attached):
            problems += [unset_count(name, attached)] if option.key in RANK_COUNTS else []
            continue
        value, problem = convert(option, attached, name)
        if problem is not None:
            problems.append(problem)
            continue
        if option.kind == "append":
            value = [*(given[option.key].value if option.key in given else []), value]
        given[option.key] = Setting(value, place)
    if index >= len(argv):
        problems.append(
            Problem(
                "the command names no training script",
                fix="accelerate launch [options] train.py [arguments of train.py]",
                id="PF111",
            )
        )
    return ParsedOptions(given, first_index, min(index, len(argv)), tuple(problems))


def _is_option(word: str, flags: Mapping[str, Option]) -> bool:
    """Tell what argparse takes for an option: a known one first, then anything with a dash that is no number or text."""
    if word[:1] != "-" or len(word) == 1:
        return False
    if word.partition("=")[0] in flags:
        return True
    return " " not in word and not _is_negative_number(word)


def _is_negative_number(word: str) -> bool:
    return word[:1] == "-" and word[1:].replace(".", "", 1).isdecimal()


def _unknown(name: str, flags: Mapping[str, Option]) -> Problem:
    shown = nearest_fix(name, tuple(flags))
    fix = shown or "flags of the training script go behind the script's name"
    return Problem(f"accelerate launch has no option {name}", name, fix, "PF111")


def _wanted(option: Option) -> str:
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    return {"int": "a whole number", "float": "a number"}.get(option.type, "")


def convert(option: Option, text: str, where: str) -> tuple[Any, Problem | None]:
    """Return the text as the launcher's parser keeps it, or the problem it would stop with."""

    def wrong(what: str) -> tuple[None, Problem]:
        return None, Problem(f"{where} must be {what}, not {text!r}", where, id="PF111")

    value: Any = text
    try:
        if option.type == "int":
            value = converted_whole(option.key, text)
        elif option.type == "float":
            value = float(text)
    except ValueError:
        return wrong(_wanted(option))
    if option.type == "truthy":
        value = bool(text)
    elif option.type in ("bool", "bools"):
        words = text.split(",") if option.type == "bools" else [text]
        flags = tuple(STRTOBOOL.read(word) for word in words)
        if None in flags:
            return wrong("true or false")
        value = flags if option.type == "bools" else flags[0]
    if option.choices and value not in option.choices:
        return wrong(f"one of {', '.join(option.choices)}")
    return value, None

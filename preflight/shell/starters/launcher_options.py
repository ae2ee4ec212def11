"""A launcher's own options, split off as argparse does it: the script's name ends them, the rest is the script's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preflight.bool_words import STRTOBOOL
from preflight.errors import Problem
from preflight.lazy_pattern import lazy_pattern
from preflight.near_names import nearest_fix
from preflight.setting import Place, Setting
from preflight.values import dataclass


@dataclass(frozen=True)
class LauncherOption:
    """One option of a launcher's parser."""

    key: str
    """The name that the launcher keeps the value under."""
    flags: tuple[str, ...]
    kind: str
    """What it takes: str, int, float, bool (a word for yes or no), bools (several with commas), truthy (argparse's
    `type=bool`: any text but an empty one is true), append (a str that may come again); or nothing: flag is true where
    it stands, unset false."""
    choices: tuple[str, ...] = ()
    default: Any = None
    until: str = ""
    """The first release without it; empty where the newest that was read has it."""


@dataclass(frozen=True)
class ParsedOptions:
    """What stands in front of the script's name."""

    given: Mapping[str, Setting]
    first_index: int
    script_index: int
    """argv index of the script, or of the module after -m; len(argv) where there is none."""
    problems: tuple[Problem, ...] = ()

    def value(self, key: str, default: Any = None) -> Any:
        setting = self.given.get(key)
        return default if setting is None else setting.value


def parse_options(
    argv: Sequence[str],
    first_index: int,
    options: Sequence[LauncherOption],
    program: str,
    usage: str,
    abbreviates: bool = True,
    *,
    library: str,
) -> ParsedOptions:
    """Split a command as the launcher's argparse does; what it refuses comes back as problems.

    `abbreviates` is argparse's allow_abbrev: a prefix that one option alone has is that option. `library` has the launcher.
    """
    by_flag = options_by_flag(options)
    given: dict[str, Setting] = {}
    problems: list[Problem] = []

    def refuse(message: str, where: str, fix: str = "") -> None:
        problems.append(Problem(message, where, fix, "PF111", refused_by=library))

    index = first_index
    while index < len(argv):
        word = argv[index]
        if word == "--":
            index += 1
            break
        if not _is_option(word, by_flag):
            break
        flag, equals, attached = word.partition("=")
        option = by_flag.get(word) or by_flag.get(flag)
        if option is None and not word.startswith("--") and word[:2] in by_flag:
            flag, equals, attached = word[:2], "=", word[2:]
            option = by_flag[flag]
        if option is None and abbreviates and word.startswith("--"):
            matches = {o.key: o for f, o in by_flag.items() if f.startswith(flag)}
            if len(matches) > 1:
                shown = ", ".join(f"--{key}" for key in sorted(matches))
                refuse(f"{flag} could be several options of {program}", flag, f"one of {shown}")
                index += 1
                continue
            option = next(iter(matches.values()), None)
        index += 1
        if option is None:
            near = nearest_fix(flag, tuple(by_flag))
            fix = near or "flags of the training script go behind the script's name"
            refuse(f"{program} has no option {flag}", flag, fix)
            continue
        place = Place("argv", "", flag, index=index - 1)
        if option.kind in ("flag", "unset"):
            if equals:
                refuse(f"{flag} takes no value, but got {attached!r}", flag, "drop the value")
            given[option.key] = Setting(option.kind == "flag", place)
            continue
        if not equals:
            if index >= len(argv) or argv[index] == "--" or _is_option(argv[index], by_flag):
                refuse(f"{flag} needs a value", flag, _wanted(option))
                continue
            attached = argv[index]
            index += 1
        if option.kind == "int" and option.key not in NODE_RANKS and stands_for(attached):
            problems += [unset_count(flag, attached)] if option.key in RANK_COUNTS else []
            continue
        try:
            value = _converted(option, attached)
        except ValueError:
            refuse(f"{flag} must be {_wanted(option)}, not {attached!r}", flag)
            continue
        if option.kind == "append":
            value = [*(given[option.key].value if option.key in given else []), value]
        given[option.key] = Setting(value, place)
    if index >= len(argv):
        problems.append(Problem("the command names no training script", fix=usage, id="PF111"))
    return ParsedOptions(given, first_index, min(index, len(argv)), tuple(problems))


def options_by_flag(options: Iterable[LauncherOption]) -> dict[str, LauncherOption]:
    """Return every spelling on the command line -> its option."""
    return {flag: option for option in options for flag in option.flags}


def _is_option(word: str, by_flag: Mapping[str, LauncherOption]) -> bool:
    """Tell what argparse takes for an option: a known one first, then anything with a dash that is no number or text."""
    if word[:1] != "-" or len(word) == 1:
        return False
    if word in by_flag or word.partition("=")[0] in by_flag:
        return True
    return " " not in word and not word[1:].replace(".", "", 1).isdecimal()


_STANDS_FOR = lazy_pattern(
    r"|<.*|\{.*|\[.*|\.\.\.|[A-Z][A-Z0-9_]*|[a-z]+(_[a-z]+)+|(?P<letter>[knxyz])(?P=letter)*"
)
RANK_COUNTS = ("num_processes", "num_machines", "num_gpus", "num_nodes")
"""Whole numbers of launchers that decide how many ranks there are."""


def stands_for(text: str) -> bool:
    """Tell whether a text stands where a person, or a shell, puts a number: `<N>`, NUM_GPUS, num_gpus, xxx, `$GPUS`, or nothing."""
    return _STANDS_FOR.fullmatch(text.strip()) is not None or only_shell_knows(text)


def only_shell_knows(text: str) -> bool:
    """Tell whether a part of a word is a variable or a command whose output only a shell knows: `$GPUS`, `$(nvidia-smi -L | wc -l)`."""
    return _OF_SHELL.search(text) is not None


_OF_SHELL = lazy_pattern(r"\$[\w({*@#?]|`[^`]+`")


def unset_count(flag: str, text: str) -> Problem:
    """Say that a number of ranks is not known, because a placeholder or an unset variable stands for it."""
    said = (
        f"{flag} is {text}, which stands for a number"
        if text.strip()
        else f"{flag} is empty, as of a variable that is not set here"
    )
    fix = f"{flag} N, or --set world_size=N before the `--`"
    return Problem(f"the number of ranks is not known: {said}", flag, fix, "PF115", "warning")


NODE_RANKS = ("machine_rank", "node_rank")
"""Options that differ from node to node, and on which the plan does not depend."""


def converted_whole(key: str, text: str) -> int:
    """Return a whole number; a node's rank that only the running shell knows, or a person fills in, is 0, as on the first node."""
    if key in NODE_RANKS and stands_for(text):
        return 0  # `--machine_rank $SLURM_PROCID` inside `srun bash -c '...'`, or where nobody has set it
    return int(text)


def _converted(option: LauncherOption, text: str) -> Any:
    """Return a text as the launcher's parser keeps it; raise ValueError where it would stop."""
    value: Any = text
    if option.kind == "int":
        value = converted_whole(option.key, text)
    elif option.kind == "float":
        value = float(text)
    elif option.kind == "truthy":
        value = bool(text)
    elif option.kind in ("bool", "bools"):
        switches = tuple(STRTOBOOL.read(word) for word in text.split(","))
        value = switches if option.kind == "bools" else STRTOBOOL.read(text)
        if value is None or None in switches:
            raise ValueError(text)
    if option.choices and value not in option.choices:
        raise ValueError(text)
    return value


def _wanted(option: LauncherOption) -> str:
    """Return in words what an option takes; empty for any text."""
    if option.choices:
        return f"one of {', '.join(option.choices)}"
    kinds = {"int": "a whole number", "float": "a number"}
    return kinds.get(option.kind, "true or false" if option.kind in ("bool", "bools") else "")

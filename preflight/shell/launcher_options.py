"""A launcher's own options, split off as argparse does it: the script's name ends them, the rest is the script's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from preflight.errors import Problem
from preflight.near_names import nearest_fix
from preflight.setting import Place, Setting
from preflight.values import dataclass


@dataclass(frozen=True)
class LauncherOption:
    """One option of a launcher's parser."""

    key: str
    flags: tuple[str, ...]
    kind: str = "str"
    """str, int, float, or flag (no value)."""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class ParsedOptions:
    """What stands in front of the script's name."""

    given: Mapping[str, Setting] = field(default_factory=dict)
    first_index: int = 0
    script_index: int = 0
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
) -> ParsedOptions:
    """Split a command as the launcher's argparse does; what it refuses comes back as problems."""
    by_flag = {flag: option for option in options for flag in option.flags}
    given: dict[str, Setting] = {}
    problems: list[Problem] = []

    def refuse(message: str, where: str, fix: str = "") -> None:
        problems.append(Problem(message, where, fix, "PF111"))

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
        if option is None and word.startswith("--"):
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
        if option.kind == "flag":
            if equals:
                refuse(f"{flag} takes no value, but got {attached!r}", flag, "drop the value")
            given[option.key] = Setting(True, place)
            continue
        if not equals:
            if index >= len(argv) or argv[index] == "--" or _is_option(argv[index], by_flag):
                refuse(f"{flag} needs a value", flag)
                continue
            attached = argv[index]
            index += 1
        if option.kind == "int" and option.key not in NODE_RANKS and stands_for(attached):
            problems += [unset_count(flag, attached)] if option.key in RANK_COUNTS else []
            continue
        value = _converted(option, attached)
        if value is None or (option.choices and value not in option.choices):
            wanted = {"int": "a whole number", "float": "a number"}.get(
                option.kind, f"one of {', '.join(option.choices)}"
            )
            refuse(f"{flag} must be {wanted}, not {attached!r}", flag)
            continue
        given[option.key] = Setting(value, place)
    if index >= len(argv):
        problems.append(Problem("the command names no training script", fix=usage, id="PF111"))
    return ParsedOptions(given, first_index, min(index, len(argv)), tuple(problems))


def _is_option(word: str, by_flag: Mapping[str, LauncherOption]) -> bool:
    if word[:1] != "-" or len(word) == 1:
        return False
    if word in by_flag or word.partition("=")[0] in by_flag:
        return True
    return " " not in word and not word[1:].replace(".", "", 1).isdecimal()


_STANDS_FOR = re.compile(
    r"|<.*|\{.*|\[.*|\.\.\.|[A-Z][A-Z0-9_]*|[a-z]+(_[a-z]+)+|(?P<letter>[knxyz])(?P=letter)*"
)
RANK_COUNTS = ("num_processes", "num_machines", "num_gpus", "num_nodes")
"""Whole numbers of launchers that decide how many ranks there are."""


def stands_for(text: str) -> bool:
    """Tell whether a text stands where a person puts a number: `<N>`, NUM_GPUS, num_gpus, xxx, or nothing; what only a shell knows is none."""
    return _STANDS_FOR.fullmatch(text.strip()) is not None


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
    """Return a whole number; a node's rank that only the running shell knows is 0, as on the first node."""
    if key in NODE_RANKS and (not text or text.startswith("$")):
        return 0  # `--machine_rank $SLURM_PROCID` inside `srun bash -c '...'`, or where nobody has set it
    return int(text)


def _converted(option: LauncherOption, text: str) -> Any:
    try:
        if option.kind == "int":
            return converted_whole(option.key, text)
        if option.kind == "float":
            return float(text)
    except ValueError:
        return None
    return text

"""Files of flags that HfArgumentParser puts in front of the command line: `train.args` beside `train.py`, and those that a
script names, `parse_args_into_dataclasses(args_file_flag="--config")`.

Source: transformers/hf_argparser.py parse_args_into_dataclasses, 5.24.0; `args_file_flag` since 4.24.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from preflight.errors import Problem
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.reading import Reading
from preflight.setting import Setting
from preflight.trainers.argv import ParsedArgv
from preflight.values import NamedTuple

_NAMED = lazy_pattern(r"\bargs_(filename|file_flag)\s*=\s*[\"']([^\"']+)[\"']")
_ENDING = ".args"


class FlagFiles(NamedTuple):
    """The files of flags of a launch."""

    words: tuple[tuple[str, int, str], ...]
    """Path, line and text of each word in them, in the order in which the parser takes them."""
    not_words: frozenset[int]
    """Positions of the words of the command line that name them."""


def flag_files(
    words: Sequence[str], command: LaunchCommand, script: str, text: str
) -> Reading[FlagFiles]:
    """Return the words that stand in front of those of a command line; a file that is not there gives none, as it does to
    the parser."""
    named: dict[str, str] = dict(_NAMED.findall(text))
    paths = [named.get("filename", os.path.splitext(script)[0] + _ENDING)]
    given, not_words = _given(words, named["file_flag"]) if "file_flag" in named else ([], set())
    found: list[tuple[str, int, str]] = []
    problems: list[Problem] = []
    for path in (*paths, *given):
        if not command.exists(path):
            if path in given:
                message = f"there is no {path}, and the parser goes on without it"
                problems.append(Problem(message, named["file_flag"], severity="warning"))
            continue
        lines = command.readable_text(path).splitlines()
        found += [(path, n, word) for n, line in enumerate(lines, 1) for word in line.split()]
    return Reading(FlagFiles(tuple(found), frozenset(not_words)), tuple(problems))


def _given(words: Sequence[str], flag: str) -> tuple[list[str], set[int]]:
    """Return the paths that follow a flag on the command line, and the positions of both."""
    paths, taken = [], set[int]()
    for position, word in enumerate(words):
        name, equals, path = word.partition("=")
        if name != flag or position in taken:
            continue
        taken.add(position)
        if not equals and position + 1 < len(words):
            path = words[position + 1]
            taken.add(position + 1)
        paths.append(path)
    return paths, taken


def behind(parsed: ParsedArgv, of_files: ParsedArgv, files: FlagFiles) -> ParsedArgv:
    """Return what a command line says with what files of flags say where it says nothing."""
    known, more_known = parsed.known, _placed(of_files.known, files.words)
    unknown, more_unknown = parsed.unknown, _placed(of_files.unknown, files.words)
    earlier = dict(parsed.earlier)
    for name in (*(known.keys() & more_known.keys()), *(unknown.keys() & more_unknown.keys())):
        setting = more_known.get(name) or more_unknown[name]
        earlier[name] = (*earlier.get(name, ()), setting.place)
    return replace(
        parsed,
        known={**more_known, **known},
        unknown={**more_unknown, **unknown},
        earlier=earlier,
        problems=(*parsed.problems, *_of_words(of_files.problems)),
    )


def _placed(
    settings: Mapping[str, Setting], words: Sequence[tuple[str, int, str]]
) -> dict[str, Setting]:
    """Return settings with their places in the files: their indices count the words."""
    placed = {}
    for name, setting in settings.items():
        path, line, _ = words[setting.place.index or 0]
        place = replace(setting.place, kind="flags", document=path, line=line, index=None)
        placed[name] = Setting(setting.value, place)
    return placed


def _of_words(problems: Iterable[Problem]) -> Iterable[Problem]:
    return (each for each in problems if each.severity != "info")

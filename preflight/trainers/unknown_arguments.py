"""Flags and keys that the parser of a training script does not have, said before the launch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from preflight.errors import Problem
from preflight.scripts.arguments.trainer_spellings import argument_fix
from preflight.scripts.python.own_parser import NOT_KNOWN, REFUSED, OwnParser
from preflight.setting import Place
from preflight.trainers.files import BY_CONFIG, ArgumentFile
from preflight.trainers.lookup import Given

if TYPE_CHECKING:
    from preflight.scripts.settings.script_settings import Refused


def unknown_arguments(
    given: Given, parser: OwnParser, script: str, file: ArgumentFile | None
) -> Iterator[Problem]:
    """Yield which flags and keys the script's own parser does not have, and what it does with them."""
    if parser.names is None:
        return
    for name, setting in (*given.known.items(), *given.others.items()):
        place = setting.place
        fate = _fate(place, parser, file)
        if fate == NOT_KNOWN or _is_taken(name, place, parser, parser.names):
            continue
        does = "stops at it" if fate == REFUSED else "drops it without a word"
        message = f"{place.key} is not an argument of {script}, whose parser {does}"
        fix = argument_fix(name, parser.names)
        if place.kind == "argv":
            fix = fix.replace("you mean ", "you mean --")
        yield (
            Problem(message, place.where, fix, "PF123")
            if fate == REFUSED
            else Problem(message, place.where, fix, "PF122", "warning")
        )


def refused_keywords(refused: Mapping[str, Refused]) -> Iterator[Problem]:
    """Yield the keywords of the script's own calls at which a class of transformers or TRL stops."""
    for name, each in refused.items():
        message = f"{name} is not an argument of {each.name_of_class}, which stops at it"
        yield Problem(message, each.place.where, argument_fix(name, each.taken), "PF123")


def _fate(place: Place, parser: OwnParser, file: ArgumentFile | None) -> str:
    """Return what the script's parser does with a name at this place that it does not have."""
    if place.kind == "argv":
        # A file in place of the flags: whether the parser sees the flags behind it is not known.
        return parser.flags if file is None or file.given_by == BY_CONFIG else NOT_KNOWN
    if place.kind not in ("yaml", "json") or file is None:
        return NOT_KNOWN
    if file.given_by == BY_CONFIG:
        return parser.config
    return parser.json_file if place.kind == "json" else parser.yaml_file


def _is_taken(name: str, place: Place, parser: OwnParser, names: frozenset[str]) -> bool:
    """Tell whether a parser has an argument of this name, or one that argparse takes the flag for."""
    if place.kind != "argv":
        # Read through the script, a value has the Trainer's name, and the key of the file that it came from.
        return name in names or place.key in names
    if parser.has_aliases or not place.key.startswith("--"):
        return True
    flag = place.key[2:].replace("-", "_")
    return any(f"{prefix}{known}".startswith(flag) for known in names for prefix in ("", "no_"))

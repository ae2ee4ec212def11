"""What a training script adds to its argparse parsers, and the namespace that this launch makes of it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping

from preflight.scripts.python.nodes import unparse
from preflight.scripts.python.own_parser import MANY, NONE, ONE, OPTIONAL, OwnOption
from preflight.scripts.python.scope import UNKNOWN, FlagOf, Known, Parsed, Scope
from preflight.scripts.python.settings_objects import entries_of, keys_of_file
from preflight.scripts.python.values import Evaluator
from preflight.setting import Place
from preflight.values import NamedTuple

SWITCH = "?"
"""Ends the name of a flag that takes no value."""

Calls = Iterable[tuple[ast.Call, Scope]]


class Added(NamedTuple):
    """One `add_argument`."""

    words: tuple[str, ...]
    """Its names as written."""
    spelled: str
    """The first long one, underscored."""
    dest: str
    action: str
    """store, store_true, ..., BooleanOptionalAction; empty for one that is not known."""
    keywords: Mapping[str, ast.expr]
    scope: Scope
    line: int


def added_arguments(calls: Calls, evaluator: Evaluator) -> Iterator[Added | None]:
    """Yield what every `add_argument` adds, None for one whose names are known only when it runs."""
    for call, scope in calls:
        values = [evaluator.value(item, scope) for item in call.args]
        words = tuple(value for value in values if isinstance(value, str))
        keywords = {k.arg: k.value for k in call.keywords if k.arg is not None}
        if not words or len(words) < len(values):
            yield None
            continue
        long = [word for word in words if word.startswith("--")] or words
        spelled = underscored(long[0])
        dest = evaluator.value(keywords["dest"], scope) if "dest" in keywords else spelled
        if not isinstance(dest, str):
            yield None
            continue
        stated = keywords.get("action")
        action: object = "store"
        if stated is not None:
            is_optional = unparse(stated).rpartition(".")[2] == "BooleanOptionalAction"
            action = "BooleanOptionalAction" if is_optional else evaluator.value(stated, scope)
        named = action if isinstance(action, str) else ""
        yield Added(words, spelled, dest, named, keywords, scope, call.lineno)


def positional(place: int) -> str:
    """Return the name under which the word at a place, that belongs to no flag, is asked for."""
    return f"<{place}>"


def positional_index(name: str) -> int | None:
    """Return the place that a name made by `positional` means; None for the name of a flag."""
    return int(name[1:-1]) if name[:1] == "<" and name[-1:] == ">" else None


def underscored(flag: str) -> str:
    """Return the name of a flag."""
    return flag.lstrip("-").replace("-", "_")


def options_of(added: Added, evaluator: Evaluator) -> Iterator[tuple[str, OwnOption]]:
    """Yield the option strings of one argument, each with how argparse reads it."""
    takes, bare = _takes(added, evaluator)
    for word in added.words:
        if word.startswith("-"):
            yield word, OwnOption(added.spelled, takes, bare)
        if added.action == "BooleanOptionalAction" and word.startswith("--"):
            yield f"--no-{word[2:]}", OwnOption(added.spelled, NONE, False)


def _takes(added: Added, evaluator: Evaluator) -> tuple[str, object]:
    """Return how many words an argument takes, and its value without any."""
    if added.action not in ("store", "append", "extend", "") and not _names_config(added):
        return NONE, True
    stated = added.keywords.get("nargs")
    nargs = None if stated is None else evaluator.value(stated, added.scope)
    const = added.keywords.get("const")
    if nargs == "?":
        return OPTIONAL, None if const is None else evaluator.value(const, added.scope)
    return (ONE if nargs is None else MANY), True


def argparse_names(
    calls: Calls, evaluator: Evaluator, flag_of: FlagOf, set_defaults: Calls
) -> Parsed:
    """Return the namespace of every `add_argument` of the script together."""
    names: dict[str, Known] = {}
    other_defaults: dict[str | None, Known] = {}
    for call, scope in set_defaults:
        for keyword in call.keywords:
            if keyword.arg is None:  # set_defaults(**settings)
                held = entries_of([keyword.value], scope, evaluator)
                if held is None:
                    other_defaults[None] = Known(
                        UNKNOWN, Place("script", scope.path, "", call.lineno)
                    )
                other_defaults.update(held or {})
            else:
                other_defaults[keyword.arg] = evaluator.evaluate(keyword.value, scope)
    every = [added for added in added_arguments(calls, evaluator) if added is not None]
    for added in every:
        if _names_config(added):
            other_defaults.update(_of_config_file(added, evaluator, flag_of))
    num_positionals = 0
    for added in every:
        place = Place("script", added.scope.path, added.dest, added.line)
        asked = [underscored(word) for word in added.words]
        is_positional = not added.words[0].startswith("-")
        if is_positional:
            asked = [positional(num_positionals)]
            num_positionals += 1
        given = flag_of(asked)
        convert = _converter(added.keywords.get("type"))
        if given is not None:
            names[added.dest] = Known(
                _given(added, given.value, convert), given.place, added.spelled
            )
            continue
        default: object
        if None in other_defaults:
            default = UNKNOWN
        elif added.dest in other_defaults:
            stated = other_defaults[added.dest]
            default, place = stated.value, stated.place
        elif "default" in added.keywords:
            default = evaluator.value(added.keywords["default"], added.scope)
            if isinstance(default, str):
                default = convert(default)
        else:
            default = {"store_true": False, "store_false": True}.get(added.action)
            default = UNKNOWN if is_positional and "nargs" not in added.keywords else default
        flag = {"store": added.spelled, "store_true": f"{added.spelled}{SWITCH}"}.get(added.action)
        names[added.dest] = Known(default, place, flag or "")
    return Parsed(names)


def _names_config(added: Added) -> bool:
    """Tell whether an argument is the path of a file that says what flags leave out: of jsonargparse
    (ActionConfigFile in _actions.py, 4.27 to 4.41) and of ConfigArgParse (configargparse.py, 1.5 to 1.7)."""
    action = added.keywords.get("action")
    is_file = added.keywords.get("is_config_file", added.keywords.get("is_config_file_arg"))
    of_class = "" if action is None else unparse(action).rpartition(".")[2]
    is_said = isinstance(is_file, ast.Constant) and is_file.value is True
    return is_said or added.action == "config" or of_class == "ActionConfigFile"


def _of_config_file(
    added: Added, evaluator: Evaluator, flag_of: FlagOf
) -> Mapping[str | None, Known]:
    """Return what such a file says; UNKNOWN under None where it cannot be read, nothing where none is given."""
    given = flag_of([underscored(word) for word in added.words])
    stated = added.keywords.get("default")
    path: object = None if stated is None else evaluator.value(stated, added.scope)
    path = path if given is None else given.value
    if path is None:
        return {}
    entries = keys_of_file(path, evaluator, "yaml") if isinstance(path, str) else None
    if entries is None:
        place = Place("script", added.scope.path, added.dest, added.line)
        return {None: Known(UNKNOWN, place)}
    return {underscored(name): known for name, known in entries.items()}


def _given(added: Added, value: object, convert: Callable[[str], object]) -> object:
    """Return what argparse makes of what the command line says."""
    if added.action in ("store_true", "store_false"):
        return added.action == "store_true"
    if added.action == "BooleanOptionalAction":
        return value if isinstance(value, bool) else UNKNOWN
    if added.action != "store":
        return UNKNOWN
    if isinstance(value, list):
        items = [convert(item) if isinstance(item, str) else item for item in value]
        return UNKNOWN if UNKNOWN in items else items
    return convert(value) if isinstance(value, str) else value


_CASTS: dict[str, Callable[[str], object]] = {"int": int, "float": float, "str": str, "bool": bool}


def _converter(node: ast.expr | None) -> Callable[[str], object]:
    cast = _CASTS.get(unparse(node)) if node is not None else str

    def convert(text: str) -> object:
        if cast is None:
            return UNKNOWN
        try:
            return cast(text)
        except ValueError:
            return UNKNOWN

    return convert

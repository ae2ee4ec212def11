"""Builtins that set, export, declare and remove variables and arguments."""

from __future__ import annotations

import re
from collections.abc import Sequence

from preflight.shell.grammar.arithmetic import NoNumber
from preflight.shell.grammar.syntax import Assignment, Word
from preflight.shell.grammar.text import EMPTY, Array, Text, text_of_parts
from preflight.shell.meaning.assignments import assign
from preflight.shell.meaning.expansion import text_of
from preflight.shell.meaning.running import Running, Status, argument
from preflight.shell.meaning.state import State


def declare(run: Running, command: str, words: Sequence[Word | Assignment]) -> Status:
    """Do `export`, `declare`, `local`, `readonly`: set, export, or make an array."""
    state = run.state
    letters = ""
    for word in words:
        if isinstance(word, Word):
            text = text_of(word, state)
            value = text.known
            if value is not None and value[:1] in ("-", "+"):
                letters += value[1:] if value[0] == "-" else ""
                continue
            name, equals, _ = text.shown.partition("=")
            if "f" in letters and (command == "export" or "x" in letters):
                state.exported_functions |= {name}
            if "f" in letters or not name.isidentifier():
                continue
            _declare_name(state, command, name, letters, bool(equals))
            if equals:
                # `export "$NAME=$VALUE"`: what stands in front is known, or it is no name.
                parts = text.parts
                first = parts[0] if isinstance(parts[0], str) else ""
                rest = Text((first[len(name) + 1 :], *parts[1:])) if first else EMPTY
                state.set(name, text_of_parts(rest.parts))
        else:
            _declare_name(state, command, word.name, letters, True)
            assign(state, word)
            name = word.name
        if (command == "export" and "n" not in letters) or "x" in letters:
            state.exported.add(name)
    return True


def _declare_name(state: State, command: str, name: str, letters: str, is_set: bool) -> None:
    is_local = command == "local" or (command in ("declare", "typeset") and "g" not in letters)
    if is_local and state.frames:
        if name not in state.frames[-1]:
            *frames, own = state.frames
            state.frames = (*frames, {**own, name: state.values.get(name)})
        if command == "local" or not is_set:
            state.values.pop(name, None)
    if "A" in letters and not isinstance(state.values.get(name), Array):
        state.values[name] = Array({}, True)
    elif "a" in letters and name not in state.values:
        state.values[name] = Array({})


def unset(run: Running, argv: list[Text]) -> Status:
    state = run.state
    for word in argv[1:]:
        name, _, rest = word.shown.partition("[")
        value = state.values.get(name)
        if rest and isinstance(value, Array):
            key = rest[:-1].strip("\"'")
            place = key if value.is_map else int(key) if key.isdecimal() else None
            items = {item: text for item, text in value.items.items() if item != place}
            state.values[name] = Array(items, value.is_map)
        elif name in state.values:
            state.unset(name)
        elif name in state.functions:
            del state.functions[name]
    return True


def let(run: Running, argv: list[Text]) -> Status:
    value: int | None = 0
    for word in argv[1:]:
        try:
            value = run.state.number(word)
        except NoNumber:
            value = None
    return None if value is None else value != 0


def shift(run: Running, argv: list[Text]) -> Status:
    try:
        number = run.state.number(argument(argv, 1)) if len(argv) > 1 else 1
    except NoNumber:
        number = None
    if number is None or number > len(run.state.arguments):
        return None if number is None else False
    run.state.arguments = run.state.arguments[number:]
    return True


def set_(run: Running, argv: list[Text]) -> Status:
    state = run.state
    values = [word.known for word in argv]
    for index, value in enumerate(values[1:], 1):
        if value == "--" or value is None or value[:1] not in ("-", "+"):
            if re.fullmatch(r"[-+]\w*o", values[index - 1] or "") and index > 1:
                continue  # -euo pipefail
            state.arguments = argv[index + (value == "--") :]
            break
        if value in ("-o", "+o"):
            is_all = index + 1 < len(values) and values[index + 1] == "allexport"
        else:
            is_all = "a" in value[1:]
        if is_all:
            state.exports_all = value[0] == "-"
    return True

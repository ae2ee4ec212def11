"""What the builtins of a shell do to its state: folders, variables, arguments, and the end of what is followed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence

from preflight.shell.arithmetic import NoNumber
from preflight.shell.expansion import text_of
from preflight.shell.fills import getopts, mapfile, read
from preflight.shell.printing import echo, printf
from preflight.shell.running import Leave, Running, Status, argument
from preflight.shell.state import State
from preflight.shell.syntax import Assignment, Word
from preflight.shell.text import (
    EMPTY,
    Array,
    Text,
    array,
    joined,
    known,
    text_of_parts,
)

NOT_SOURCED = ("conda.sh", "bashrc", "profile", "modules", "init/bash", "init/sh", "lmod")
"""Files that set up a machine and not a launch."""


def _nothing(run: Running, argv: list[Text]) -> Status:
    return True


def _false(run: Running, argv: list[Text]) -> Status:
    return False


def _words(argv: Sequence[Text]) -> list[Text]:
    """Return the words behind the options of `cd` and the like."""
    found = list(argv[1:])
    while found and (value := found[0].known) is not None and value.startswith("-") and value != "-":  # fmt: skip
        del found[0]
        if value == "--":
            break
    return found


# Folders


def folder_of(state: State, target: Text) -> Text:
    """Return the folder that a path names, as a shell spells it."""
    first = target.parts[0] if target.parts else ""
    if not isinstance(first, str) or first.startswith("/"):
        whole = target
    else:
        whole = joined((state.cwd, target), "/")
    path = whole.known
    return whole if path is None else known(os.path.normpath(path))


def _enter(state: State, target: Text) -> None:
    state.values["OLDPWD"] = state.cwd
    state.cwd = folder_of(state, target)


def cd(run: Running, argv: list[Text]) -> Status:
    state, words = run.state, _words(argv)
    target = words[0] if words else state.text("HOME")
    if target.known == "-":
        target = state.text("OLDPWD")
    if target != EMPTY:
        _enter(state, target)
    return True


def pushd(run: Running, argv: list[Text]) -> Status:
    words = _words(argv)
    if words and not (words[0].known or "").startswith("+"):
        run.state.folders = (*run.state.folders, run.state.cwd)
        _enter(run.state, words[0])
    return True


def popd(run: Running, argv: list[Text]) -> Status:
    if run.state.folders:
        *rest, last = run.state.folders
        run.state.folders = tuple(rest)
        _enter(run.state, last)
    return True


def pwd(run: Running, argv: list[Text]) -> Status:
    run.print(run.state.cwd + known("\n"))
    return True


# Variables


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
            if not name.isidentifier():
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
            run.assign(word)
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


# What is followed


def eval_(run: Running, argv: list[Text]) -> Status:
    return run.follow_text(joined(argv[1:]))


def source(run: Running, argv: list[Text]) -> Status:
    """Follow a file in this shell; of an environment's `activate` note which one it is."""
    state = run.state
    path = state.path(argument(argv, 1))
    if path is None:
        return None
    if path.endswith("/bin/activate"):
        state.set("VIRTUAL_ENV", known(path.removesuffix("/bin/activate")))
        state.exported.add("VIRTUAL_ENV")
        return True
    if path.startswith("/etc/") or "activate" in path or path.endswith(NOT_SOURCED):
        return True
    text = state.world.files.read(path)
    if text is None:
        return None
    before, arguments = state.values.get("BASH_SOURCE"), state.arguments
    state.values["BASH_SOURCE"] = array([argv[1]])
    if len(argv) > 2:
        state.arguments = argv[2:]
    try:
        return run.follow_text(text)
    except Leave as leave:
        if leave.kind != "return":
            raise
        return leave.status
    finally:
        state = run.state
        if len(argv) > 2:
            state.arguments = arguments
        if before is None:
            state.values.pop("BASH_SOURCE", None)
        else:
            state.values["BASH_SOURCE"] = before


def exec_(run: Running, argv: list[Text]) -> Status:
    """Start a program in the place of the shell; a line that only redirects is none."""
    words = _command_words(argv, "a")
    if not words:
        return True
    status = run.run(words)
    if run.goes_on:
        return status
    raise Leave("exit", status)


def command(run: Running, argv: list[Text]) -> Status:
    """`command` and `builtin`: what follows, without functions; `command -v` names what it is asked for."""
    if argument(argv, 1).known in ("-v", "-V"):
        name = argument(argv, 2)
        run.print(name + known("\n"))
        return True if name.known in BUILTINS or name.known in run.state.functions else None
    words = _command_words(argv, "")
    if not words:
        return True
    before = run.state.functions
    run.state.functions = {}
    try:
        return run.run(words)
    finally:
        run.state.functions = {**before, **run.state.functions}


def _command_words(argv: list[Text], with_value: str) -> list[Text]:
    words = argv[1:]
    while words and (value := words[0].known or "").startswith("-"):
        del words[: 2 if value == f"-{with_value}" else 1]
        if value == "--":
            break
    return words


def _leaves(kind: str) -> Callable[[Running, list[Text]], Status]:
    def leave(run: Running, argv: list[Text]) -> Status:
        word = argument(argv, 1).known
        if kind == "exit" and run.goes_on:
            return True
        if kind in ("break", "continue"):
            raise Leave(kind, True, int(word) if word and word.isdecimal() else 1)
        status = run.state.status if len(argv) < 2 else None if word is None else word == "0"
        raise Leave(kind, status)

    return leave


# Environments


def activate(run: Running, argv: list[Text]) -> Status:
    """Note which environment `conda activate` names."""
    name = argument(argv, 2)
    if name != EMPTY:
        is_path = any(isinstance(part, str) and "/" in part for part in name.parts)
        variable = "CONDA_PREFIX" if is_path else "CONDA_DEFAULT_ENV"
        run.state.set(variable, name)
        run.state.exported.add(variable)
    return True


BUILTINS: dict[str | None, Callable[[Running, list[Text]], Status]] = {
    ":": _nothing,
    "true": _nothing,
    "false": _false,
    "cd": cd,
    "chdir": cd,
    "pushd": pushd,
    "popd": popd,
    "pwd": pwd,
    "unset": unset,
    "let": let,
    "shift": shift,
    "set": set_,
    "eval": eval_,
    "source": source,
    ".": source,
    "exec": exec_,
    "command": command,
    "builtin": command,
    "exit": _leaves("exit"),
    "return": _leaves("return"),
    "break": _leaves("break"),
    "continue": _leaves("continue"),
    "echo": echo,
    "printf": printf,
    "read": read,
    "mapfile": mapfile,
    "readarray": mapfile,
    "getopts": getopts,
    **dict.fromkeys(
        ("trap", "wait", "ulimit", "shopt", "alias", "unalias", "hash", "umask", "jobs", "kill",
         "disown", "bg", "fg", "times", "enable", "bind", "complete", "sleep", "module", "ml"), _nothing,
    ),
}  # fmt: skip

"""What the builtins of a shell do to its state: folders, variables, arguments, and the end of what is followed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from preflight.shell.grammar.text import EMPTY, Text, array, joined, known
from preflight.shell.meaning.declarations import let, set_, shift, unset
from preflight.shell.meaning.fills import getopts, mapfile, read
from preflight.shell.meaning.printing import echo, printf
from preflight.shell.meaning.running import Leave, Running, Status, argument
from preflight.shell.meaning.state import State

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


CONDAS = ("conda", "mamba", "micromamba")


def activates(argv: Sequence[str]) -> bool:
    """Tell whether a command activates a Python environment in its shell."""
    if argv[0] in CONDAS:
        return "activate" in argv[1:2]
    return argv[0] in ("source", ".") and len(argv) > 1 and argv[1].endswith("/bin/activate")


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

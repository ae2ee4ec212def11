"""Programs that start the launcher: peeled off before a reader is asked, and put back around what it rewrote.

`srun numactl -N 0 bash -c 'cd run && torchrun train.py'` is three layers. Each knows the command inside
it, with the variables and the folder that it gives it, and how other words are put in its place.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.rewrite import Rewrite
from preflight.shell.program_names import program_name
from preflight.shell.wrapper_notes import notes_on, rank_environment
from preflight.shell.wrapper_options import (
    CONTAINERS,
    OPTIONS,
    SAME_AS,
    SHELLS,
    WrapperOptions,
)
from preflight.values import dataclass

if TYPE_CHECKING:
    from preflight.shell.commands import ShellCommand

MAX_LAYERS = 12


@dataclass(frozen=True)
class Layer:
    """One wrapper around a command."""

    kind: str
    """env, srun, bash, docker run, ..."""
    command: LaunchCommand
    inner: LaunchCommand
    start: int
    """argv index of the first inner word; of the script's text for a shell."""
    added: tuple[str, ...] = ()
    """Words that the inner command has in front and argv does not: `python` for `uv run train.py`."""
    script: ShellCommand | None = None
    """For a shell: which of its commands the inner one is."""
    assigned: frozenset[str] = frozenset()
    """Variables that this layer sets, whatever the environment says."""
    passes_env: bool = True
    notices: tuple[Problem, ...] = field(default=())

    def put(self, argv: Sequence[str]) -> tuple[str, ...] | None:
        """Return this layer's argv around another inner command; None where that cannot be said."""
        words = tuple(argv)
        outer = self.command.argv
        if self.script is not None:
            from preflight.shell.edits import with_words

            text = with_words(outer[self.start], self.script, words)
            return (*outer[: self.start], text, *outer[self.start + 1 :])
        if words[: len(self.added)] != self.added:
            return None
        return (*outer[: self.start], *words[len(self.added) :])


Read = Callable[[LaunchCommand], "LaunchPlan | None"]


def read_behind(command: LaunchCommand, read: Read) -> LaunchPlan | None:
    """Return the plan of the launcher behind a command's wrappers, which the plan then holds; None without one.

    Raises BadInput where preflight cannot tell what is started, or where two launchers are.
    """
    found = _found(command, read, ())
    if len(found) > 1:
        # `python prepare.py && torchrun train.py` starts one job that matters here.
        launchers = [plan for plan in found if plan.launcher != "python"]
        if len(launchers) != 1:
            names = " and ".join(_shown(plan.wrapping[-1].inner.argv) for plan in found)
            raise BadInput.one(
                f"the command starts more than one launch: {names}",
                _shown(command.argv[:2]),
                "check each of them on its own",
                "PF131",
            )
        found = launchers
    if not found:
        return None
    notices = tuple(notice for layer in found[0].wrapping for notice in layer.notices)
    return replace(found[0], notices=(*found[0].notices, *notices))


def _found(command: LaunchCommand, read: Read, around: tuple[Layer, ...]) -> list[LaunchPlan]:
    plans: list[LaunchPlan] = []
    if len(around) >= MAX_LAYERS:
        return plans
    for layer in unwrapped(command):
        layers = (*around, layer)
        try:
            plan = read(layer.inner)
        except BadInput as error:
            # What is not seen through a wrapper may be what the reader missed.
            unseen = (notice for item in layers for notice in item.notices)
            raise BadInput(*error.problems, *unseen) from error
        if plan is not None:
            plans.append(replace(plan, wrapping=layers))
        else:
            plans.extend(_found(layer.inner, read, layers))
    return plans


def unwrapped(command: LaunchCommand) -> list[Layer]:
    """Return the wrapper of a command with what it starts: none, one, or one per command of a shell's list."""
    argv = command.argv
    if not argv:
        return []
    name = program_name(argv[0])
    if name in SHELLS:
        return _shell(command, name)
    first = 1
    for num_words in (3, 2):
        words = " ".join((name, *argv[1:num_words]))
        words = SAME_AS.get(words, words)
        if words in OPTIONS:
            name, first = words, num_words
            break
    name = SAME_AS.get(name, name)
    if name not in OPTIONS:
        return []
    given, start = _own_options(argv, first, name, OPTIONS[name])
    if start is None:
        return []
    layer = _layer(command, name, given, start)
    return [] if layer is None or not layer.inner.argv else [layer]


Given = list[tuple[str, str]]
"""Options of a wrapper with their values, in order; `` for a flag."""


def _own_options(
    argv: Sequence[str], first: int, name: str, options: WrapperOptions
) -> tuple[Given, int | None]:
    """Return the wrapper's own options and where the inner command starts."""
    given: Given = []
    index = first
    while index < len(argv):
        word = argv[index]
        if word == "--":
            index += 1
            break
        if not word.startswith("-") or (len(word) == 1 and word not in options.flags):
            break
        flag, equals, value = word.partition("=")
        index += 1
        if word in options.flags or flag in options.flags:
            given.append((flag, value))
        elif word in options.values or (
            options.values_by_default and word.startswith("--") and not equals
        ):
            given.append((word, argv[index] if index < len(argv) else ""))
            index += 1
        elif equals and word.startswith("--"):
            given.append((flag, value))
        elif not word.startswith("--") and word[:2] in options.values:
            given.append((word[:2], word[2:].removeprefix("=")))  # -n4
        elif not word.startswith("--") and (
            word[:2] in options.flags or (name == "nice" and word[1:].isdecimal())
        ):
            given.append((word[:2], word[2:]))
        elif options.flags_by_default and word.startswith("--"):
            given.append((word, ""))
        else:
            raise BadInput.one(
                f"{name} {word}: preflight does not know this option, and cannot tell where the command starts",
                word,
                f"write {word}=VALUE, or put -- in front of the command"
                if word.startswith("--")
                else "put preflight in front of the launcher instead",
                "PF131",
            )
    index += options.num_positionals
    return given, index if index < len(argv) else None


def option(given: Given, *names: str) -> str | None:
    """Return the last value of an option under any of its names."""
    return next((value for flag, value in reversed(given) if flag in names), None)


def _layer(command: LaunchCommand, name: str, given: Given, start: int) -> Layer | None:
    argv, env, cwd = command.argv, dict(command.env), command.cwd
    assigned: set[str] = set()
    passes_env = True
    added: tuple[str, ...] = ()
    flags = {flag for flag, _ in given}
    if name == "env":
        if {"-i", "--ignore-environment", "-"} & flags:
            env, passes_env = {}, False
        for flag, value in given:
            if flag in ("-u", "--unset"):
                env.pop(value, None)
                assigned.add(value)
        while start < len(argv) and "=" in argv[start]:
            variable, _, value = argv[start].partition("=")
            env[variable] = value
            assigned.add(variable)
            start += 1
        cwd = _folder(command, option(given, "-C", "--chdir"))
    elif name == "srun":
        if "--multi-prog" in flags:
            raise BadInput.one(
                "srun --multi-prog starts what its file says, which is not read",
                "--multi-prog",
                "check the command of the file on its own",
                "PF131",
            )
        export = option(given, "--export")
        if export is not None:
            items = export.split(",")
            passes_env = "ALL" in items
            for item in items:
                variable, equals, value = item.partition("=")
                if equals:
                    env[variable] = value
                    assigned.add(variable)
        env.update(rank_environment(given, command.env))
        cwd = _folder(command, option(given, "-D", "--chdir"))
    elif name in CONTAINERS:
        env, passes_env = _container_environment(name, given, command.env), False
        if name == "apptainer exec":
            passes_env = not {"-e", "--cleanenv", "-C", "--containall"} & flags
        cwd = _container_folder(name, given, command)
    elif name in ("uv run", "uvx"):
        cwd = _folder(command, option(given, "--directory"))
        if {"-m", "--module"} & flags:
            added = ("python", "-m")
        elif name == "uv run" and (argv[start].endswith(".py") or {"-s", "--script"} & flags):
            added = ("python",)
    elif name == "conda run":
        cwd = _folder(command, option(given, "--cwd"))
    from preflight.shell.wrapper_environments import said_versions, with_environment

    inner = replace(
        command,
        argv=(*added, *argv[start:]),
        env=with_environment(name, given, command, env),
        cwd=cwd,
        versions={**command.versions, **said_versions(name, given)},
        in_container=command.in_container or name in CONTAINERS or "--container-image" in flags,
    )
    layer = Layer(name, command, inner, start, added, None, frozenset(assigned), passes_env)
    return replace(layer, notices=tuple(notes_on(name, given, argv, start)))


def _folder(command: LaunchCommand, path: str | None) -> str:
    return command.cwd if path is None else command.resolve(path)


def _container_environment(name: str, given: Given, caller: Mapping[str, str]) -> dict[str, str]:
    env: dict[str, str] = dict(caller) if name == "apptainer exec" else {}
    for flag, value in given:
        if flag in ("-e", "--env") and value:
            for item in value.split(",") if name == "apptainer exec" else [value]:
                variable, equals, text = item.partition("=")
                if equals:
                    env[variable] = text
                elif variable in caller:
                    env[variable] = caller[variable]
    return env


def _container_folder(name: str, given: Given, command: LaunchCommand) -> str:
    """Return the folder of this machine that the container starts in, where a mount tells."""
    folder = option(given, "-w", "--workdir", "--pwd", "--cwd")
    if folder is None:
        return command.cwd
    for flag, value in given:
        parts = value.split(":")
        if flag in ("-v", "--volume", "-B", "--bind") and len(parts) >= 2:
            source, target = parts[0], parts[1].rstrip("/") or "/"
            if folder == target or folder.startswith(target.rstrip("/") + "/"):
                rest = folder[len(target) :].lstrip("/")
                return (
                    command.resolve(os.path.join(source, rest)) if rest else command.resolve(source)
                )
    return folder


def _shell(command: LaunchCommand, name: str) -> list[Layer]:
    """Return a layer per command of `bash -c TEXT`; a script file is no layer."""
    from preflight.shell.commands import CannotTell, parse_script  # most launches have no shell

    argv = command.argv
    index = 1
    while index < len(argv) and argv[index][:1] in ("-", "+") and len(argv[index]) > 1:
        word = argv[index]
        index += 1
        is_short = not word.startswith("--")
        if word in ("--rcfile", "--init-file") or (is_short and {"o", "O"} & set(word)):
            index += 1  # -euo pipefail
        if is_short and word.startswith("-") and "c" in word:
            break
    else:
        return []
    if index >= len(argv):
        return []
    try:
        # A shell sets PWD itself, whatever it was given.
        env = {**command.env, "PWD": os.path.abspath(command.cwd)}
        commands = parse_script(argv[index], env)
    except CannotTell as reason:
        raise BadInput.one(
            f"{name} -c: preflight cannot follow {reason} in the command",
            f"{name} -c",
            "put preflight in front of the launcher, inside the quotes",
            "PF131",
        ) from None
    layers = []
    for position, one in enumerate(commands):
        folder = os.path.join(command.cwd, one.folder) if one.folder else command.cwd
        inner = replace(command, argv=one.argv, env=dict(one.env), cwd=folder)
        notices = notes_on("shell", [], (), 0, commands[:position], one)
        layers.append(
            Layer(name, command, inner, index, (), one, one.assigned, notices=tuple(notices))
        )
    return layers


def rewrapped(rewrite: Rewrite, layers: Sequence[Layer]) -> Rewrite | None:
    """Return a rewrite of the innermost command as one of the whole; None where a layer cannot hold it."""
    if rewrite.files and any(layer.kind.startswith("docker") for layer in layers):
        return None  # the copies would lie outside the container
    argv, env = rewrite.argv, dict(rewrite.env)
    reaches = all(layer.passes_env and not layer.assigned & env.keys() for layer in layers)
    if env and not reaches:
        argv, env = ("env", *(f"{name}={value}" for name, value in env.items()), *argv), {}
    for layer in reversed(layers):
        put = layer.put(argv)
        if put is None:
            return None
        argv = put
    return replace(rewrite, argv=argv, env=env)


def _shown(argv: Sequence[str]) -> str:
    text = " ".join(argv)
    return text if len(text) <= 60 else text[:57] + "..."

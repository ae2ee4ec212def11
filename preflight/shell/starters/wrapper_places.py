"""What a container, or a machine elsewhere, gives the command that a wrapper starts there: its variables and its folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from preflight.devices.cloud_names import flavor
from preflight.launch import LaunchCommand
from preflight.shell.starters.variables import numbered

Given = list[tuple[str, str]]
"""Options of a wrapper with their values, in order; `` for a flag."""


def option(given: Given, *names: str) -> str | None:
    """Return the last value of an option under any of its names."""
    return next((value for flag, value in reversed(given) if flag in names), None)


def variables_elsewhere(name: str, given: Given, caller: Mapping[str, str]) -> dict[str, str]:
    """Return what the launcher finds there: the variables that the options give, and the GPUs of the flavor."""
    env = container_environment(name, given, caller)
    _, count = flavor(option(given, "--flavor") or "")
    return env if count is None else {"CUDA_VISIBLE_DEVICES": numbered(count), **env}


def container_environment(name: str, given: Given, caller: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a container's options give, with those of the caller where it takes them over."""
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


VOLUMES = {
    "docker run": ("-v", "--volume"),
    "apptainer exec": ("-B", "--bind"),
    "srun": ("--container-mounts",),
}
"""Wrapper -> its options that say `FOLDER:FOLDER_INSIDE[:...]`, of all but Docker several with commas; srun's are pyxis'."""
STARTS_IN = {
    "docker run": ("-w", "--workdir"),
    "docker exec": ("-w", "--workdir"),
    "apptainer exec": ("--pwd", "--cwd"),
    "srun": ("--container-workdir",),
}
SOURCES, TARGETS = ("source", "src"), ("target", "destination", "dst")


def mounts_of(name: str, given: Given, command: LaunchCommand) -> dict[str, str]:
    """Return the folders of this machine that a container has, by where it has them; a later option wins.

    A volume of Docker's own has a name and no path, and is none of them.
    """
    found: dict[str, str] = {}
    for flag, value in given:
        for source, target in _pairs(name, flag, value):
            if source.startswith(("/", ".", "~")) and target.startswith("/"):
                found[os.path.normpath(target)] = command.resolve(source)
    return found


def _pairs(name: str, flag: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield source and target of the folders that an option mounts, as they are written."""
    if flag in VOLUMES.get(name, ()):
        for one in [value] if name == "docker run" else value.split(","):
            source, _, rest = one.partition(":")
            target = rest.partition(":")[0]
            # alone, a folder lies at its own place; Docker makes an empty one there
            yield source, target if target or name == "docker run" else source
    elif flag == "--mount" and name in ("docker run", "apptainer exec"):
        words = dict(item.partition("=")[::2] for item in value.split(","))
        if words.get("type") == "bind":
            source, target = (
                next((words[key] for key in keys if key in words), "")
                for keys in (SOURCES, TARGETS)
            )
            yield source, target


def container_folder(name: str, given: Given, command: LaunchCommand) -> tuple[str, bool]:
    """Return the folder that a container starts in, of this machine where one of the command's mounts has it; and whether
    what is written below the folder of the launch is seen there.

    Apptainer starts in the caller's own folder; the others in one that their image says, where nobody names it.
    """
    named = option(given, *STARTS_IN[name])
    if named is None:
        return command.cwd, name == "apptainer exec"
    folder = command.resolve(named)
    is_mounted = command.inside(folder) is not None
    return folder if is_mounted else named, is_mounted


def card_elsewhere(given: Given) -> str | None:
    """Return the key of the card that the options name; None where they name none."""
    return flavor(option(given, "--flavor") or "")[0]

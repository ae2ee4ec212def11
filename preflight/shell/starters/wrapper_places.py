"""What a container, or a machine elsewhere, gives the command that a wrapper starts there: its variables and its folder."""

from __future__ import annotations

import os
from collections.abc import Mapping

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


def container_folder(name: str, given: Given, command: LaunchCommand) -> str:
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


def card_elsewhere(given: Given) -> str | None:
    """Return the key of the card that the options name; None where they name none."""
    return flavor(option(given, "--flavor") or "")[0]

"""The Python environment that a launch starts in, and the folders that it imports from; nothing in it is run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace

from preflight.command import LaunchCommand
from preflight.files import entries_of, find_program, open_regular, readable_text
from preflight.values import dataclass

CONDA_HOMES = (
    "miniconda3", "anaconda3", "miniforge3", "mambaforge", "mambaforge3", "micromamba", ".conda", "conda",
)  # fmt: skip
"""Folders of the home folder, and of /opt, in which conda is installed or keeps environments."""


@dataclass(frozen=True)
class Environment:
    """A Python environment."""

    name: str
    """As a report names it: its folder, or the name that conda knows it by."""
    folders: tuple[str, ...] = ()
    """What its Python imports from; empty where it is not on this machine, or cannot be told."""
    is_named: bool = False
    """Whether the launch names it, or somebody activated it, and it was not merely found on PATH."""
    sees_more: bool = False
    """Whether it imports from the Python that it was made with, too, whose folders may not all be known."""


def environment_of(command: LaunchCommand) -> Environment | None:
    """Return the environment that a launch starts in; None where its launcher is nowhere on this machine."""
    if command.in_container:
        return Environment("the container", is_named=True)
    env, program = command.env, command.argv[0] if command.argv else ""
    named = _of_program(command, program) if os.sep in program else None
    named = named or _activated(command)
    if named is not None:
        return named
    interpreter = interpreter_of(program, env.get("PATH", ""))
    if interpreter is None or os.sep not in interpreter:
        return None
    prefix = prefix_of(interpreter)
    is_active = prefix in (env.get("VIRTUAL_ENV"), env.get("CONDA_PREFIX"))
    is_base = env.get("CONDA_DEFAULT_ENV") == "base" and prefix == env.get("CONDA_PREFIX")
    return _environment(command, prefix, is_active and not is_base)


def _environment(command: LaunchCommand, prefix: str, is_named: bool = True) -> Environment:
    shown, env = os.path.relpath(prefix, command.cwd), command.env
    name = prefix if shown.startswith("..") else shown
    own, system = site_folders(prefix), system_prefix(prefix)
    more = (folder for folder in env.get("PYTHONPATH", "").split(os.pathsep) if folder)
    folders = (*more, *own, *site_folders(system)) if own else ()
    return Environment(name, folders, is_named, bool(system))


def _of_program(command: LaunchCommand, program: str) -> Environment | None:
    """Return the environment of a launcher that is given by its path; None where the path does not tell one."""
    path = command.resolve(program)
    interpreter = interpreter_of(path, command.env.get("PATH", ""))
    if interpreter is not None:
        return _environment(command, prefix_of(interpreter)) if os.sep in interpreter else None
    folder = os.path.dirname(path)
    is_elsewhere = os.path.basename(folder) == "bin" and not os.path.exists(path)
    return Environment(os.path.dirname(folder), is_named=True) if is_elsewhere else None


def _activated(command: LaunchCommand) -> Environment | None:
    """Return the environment that the launch itself activates: one whose programs the caller's PATH does not have.

    Whoever reads a launch sets the variables as `source .venv/bin/activate`, `conda activate` and `uv run` do, and
    leaves PATH alone.
    """
    env = command.env
    on_path = env.get("PATH", "").split(os.pathsep)
    conda, name = env.get("CONDA_PREFIX", ""), env.get("CONDA_DEFAULT_ENV", "")
    for prefix in filter(None, (env.get("VIRTUAL_ENV"), conda)):
        if os.path.join(prefix, "bin") not in on_path:
            return _environment(command, command.resolve(prefix))
    if not name or (conda and name in ("base", conda, os.path.basename(conda))):
        return None
    prefix = conda_prefix(name, env)
    found = _environment(command, prefix) if prefix else Environment("", is_named=True)
    return replace(found, name=f"conda environment {name}")


def conda_prefix(name: str, env: Mapping[str, str]) -> str:
    """Return the folder of a conda environment by its name; empty where it is not on this machine."""
    for folder in _conda_folders(env):
        prefix = os.path.join(folder, name)
        if os.path.isdir(os.path.join(prefix, "lib")):
            return prefix
    return next((p for p in _known_prefixes(env) if os.path.basename(p) == name), "")


def _conda_folders(env: Mapping[str, str]) -> Iterator[str]:
    """Yield the folders in which conda looks for environments."""
    for variable in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"):
        yield from filter(None, env.get(variable, "").split(os.pathsep))
    if env.get("MAMBA_ROOT_PREFIX"):
        yield os.path.join(env["MAMBA_ROOT_PREFIX"], "envs")
    program = env.get("CONDA_EXE") or find_program("conda", env.get("PATH", ""))
    if program:
        yield os.path.join(prefix_of(program), "envs")
    for base in filter(None, (env.get("HOME", ""), "/opt")):
        for name in CONDA_HOMES:
            yield os.path.join(base, name, "envs")


def _known_prefixes(env: Mapping[str, str]) -> list[str]:
    """Return the environments that conda wrote down for its user."""
    text = readable_text(os.path.join(env.get("HOME", ""), ".conda", "environments.txt"))
    return [line.strip() for line in text.splitlines() if os.path.isdir(line.strip())]


def prefix_of(interpreter: str) -> str:
    """Return the folder of an interpreter's environment: the one above its `bin`."""
    return os.path.dirname(os.path.dirname(os.path.abspath(interpreter)))


def site_folders(prefix: str) -> tuple[str, ...]:
    """Return the site-packages of an environment; nothing where two versions of Python share it."""
    if not prefix:
        return ()
    if os.path.realpath(prefix) == os.path.realpath(sys.prefix):
        return tuple(sys.path)
    found = []
    for library in ("lib", "lib64"):
        for name in entries_of(os.path.join(prefix, library)):
            folder = os.path.join(prefix, library, name, "site-packages")
            if name.startswith("python3") and os.path.isdir(folder):
                found.append(folder)
    # Two versions below one prefix: which of them it is, the interpreter alone knows.
    return tuple(found) if len({os.path.realpath(folder) for folder in found}) == 1 else ()


def system_prefix(prefix: str) -> str:
    """Return the folder of the Python that a virtual environment was made with and imports from too; else nothing."""
    # conda and a system Python have no such file
    text = readable_text(os.path.join(prefix, "pyvenv.cfg"))
    pairs = (line.partition("=")[::2] for line in text.splitlines())
    settings = {name.strip().lower(): value.strip() for name, value in pairs}
    if settings.get("include-system-site-packages", "").lower() != "true":
        return ""
    return os.path.dirname(settings.get("home", "")) or os.sep


def interpreter_of(program: str, search_path: str) -> str | None:
    """Return the Python that runs a program: itself, or the one of its first line."""
    path = program if os.sep in program else find_program(program, search_path)
    if path is None:
        return None
    if os.path.basename(path).startswith(("python", "pypy")):
        return path if os.path.exists(path) else None
    try:
        with open_regular(path) as file:
            first, second = file.readline(512), file.readline(512)
    except OSError:
        return None
    if first.startswith(b"#!/bin/sh") and second.startswith(b"'''exec'"):
        first = b"#!" + second[8:]  # a path that is too long for a first line
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    if not words:
        return None
    if os.path.basename(words[0]) == "env" and len(words) > 1:
        return find_program(words[1], search_path)
    word = words[0].strip("\"'")
    return word if os.path.basename(word).startswith(("python", "pypy")) else None

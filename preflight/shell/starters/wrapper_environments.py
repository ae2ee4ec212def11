"""The Python environment that a wrapper starts its command in, as the variables that stand for an activated one.

Sources: uv 0.9 (UV_PROJECT_ENVIRONMENT, `.venv` beside pyproject.toml), poetry 2 (utils/env/env_manager.py), pdm 2
(`.pdm-python`), pipenv 2025 (project.py), conda 25 and pixi 0.50 (`.pixi/envs`).
"""

from __future__ import annotations

import os
import re
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256

from preflight.files import entries_of, nearest_with, readable_text
from preflight.launch import LaunchCommand, Origin
from preflight.plan_parts import LibraryVersion

Given = Sequence[tuple[str, str]]
VARIABLES = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV")
"""By which an activated environment is known."""


def with_environment(
    kind: str, given: Given, command: LaunchCommand, env: Mapping[str, str]
) -> dict[str, str]:
    """Return variables with those of the environment that a wrapper names; as they are where it names none."""

    def option(*names: str) -> str | None:
        return next((value for flag, value in reversed(given) if flag in names), None)

    named: dict[str, str] = {}
    if kind == "conda run":
        prefix, name = option("-p", "--prefix"), option("-n", "--name")
        if prefix is not None:
            named = {"CONDA_PREFIX": command.resolve(prefix)}
        elif name is not None:
            named = {"CONDA_DEFAULT_ENV": name}
    elif kind == "pixi run":
        folder = nearest_with(command.cwd, "pixi.toml", "pyproject.toml") or command.cwd
        name = option("-e", "--environment") or "default"
        named = {"CONDA_PREFIX": os.path.join(folder, ".pixi", "envs", name)}
    elif kind == "uvx":
        named = {"VIRTUAL_ENV": os.path.join(command.cwd, "uvx")}  # made for the one command
    elif kind == "uv run":
        start = option("--project", "--directory")
        folder = command.cwd if start is None else command.resolve(start)
        folder = nearest_with(folder, "pyproject.toml", "uv.lock", ".venv") or folder
        own = os.path.join(folder, env.get("UV_PROJECT_ENVIRONMENT") or ".venv")
        named = {"VIRTUAL_ENV": own}
    elif kind in ("poetry run", "pdm run", "pipenv run", "rye run"):
        prefix = _of_project(kind, command.cwd, env)
        named = {} if prefix is None else {"VIRTUAL_ENV": prefix}
    if not named:
        return dict(env)
    return {**{name: value for name, value in env.items() if name not in VARIABLES}, **named}


def said_versions(kind: str, given: Given) -> dict[str, LibraryVersion]:
    """Return the libraries that `uv run --with` and `uvx --from` put beside the environment, as far as exact."""
    said = {}
    for flag, value in given:
        if kind in ("uv run", "uvx") and flag in ("--with", "--from", "-w"):
            for part in value.split(","):
                name, equals, version = part.partition("==")
                if equals:
                    library = re.sub(r"\[.*", "", name).strip().lower().replace("-", "_")
                    said[library] = LibraryVersion(version.strip(), Origin(f"{flag} {part}"))
    return said


def _of_project(kind: str, cwd: str, env: Mapping[str, str]) -> str | None:
    """Return a project's own environment; None where its tool has none here."""
    marker = "Pipfile" if kind == "pipenv run" else "pyproject.toml"
    folder = nearest_with(cwd, marker) or os.path.abspath(cwd)
    if kind == "pdm run":
        python = readable_text(os.path.join(folder, ".pdm-python")).strip()
        if python:
            return os.path.dirname(os.path.dirname(python))
    own = os.path.join(folder, ".venv")
    if os.path.isdir(own):
        return own
    home = env.get("HOME", "")
    if kind == "poetry run":
        shelf = env.get("POETRY_VIRTUALENVS_PATH") or os.path.join(
            env.get("POETRY_CACHE_DIR") or os.path.join(home, ".cache", "pypoetry"), "virtualenvs"
        )
        found = re.search(
            r"^name\s*=\s*[\"']([^\"']+)", readable_text(os.path.join(folder, marker)), re.M
        )
        return _shelved(shelf, found[1].lower() if found else "", folder)
    if kind == "pipenv run":
        shelf = env.get("WORKON_HOME") or os.path.join(home, ".local", "share", "virtualenvs")
        return _shelved(shelf, os.path.basename(folder), os.path.join(folder, marker))
    return None


def _shelved(shelf: str, name: str, path: str) -> str | None:
    """Return the environment of a path among all that a tool keeps: poetry and pipenv name it by a hash of the path."""
    name = re.sub(r'[ $`!*@"\\\r\n\t]', "_", name)[:42]
    digest = urlsafe_b64encode(sha256(path.encode()).digest()).decode()[:8]
    names = entries_of(shelf)
    wanted = f"{name}-{digest}"
    return next((os.path.join(shelf, entry) for entry in names if entry.startswith(wanted)), None)

"""The text of the guard's Lua files: the templates with a site's settings, and the helper that they name."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import sys

from preflight.files import read_bytes
from preflight.values import dataclass

POLICY_NAME = "preflight.policy"
TIMEOUT_S = 10
"""How long the check of one submission may take before the job passes unjudged."""


@dataclass(frozen=True)
class Settings:
    """What an admin may decide about the client's guard."""

    python: str = sys.executable
    timeout_s: int = TIMEOUT_S
    stamp_option: str = "extra"
    warn_only: bool = False
    """Refuse nothing, and say what would have been."""


def guard_text(name: str, folder: str, settings: Settings, site_file: str | None) -> str:
    """Return the Lua file of a name, with its settings filled in."""
    templates = importlib.import_module("preflight.templates").__path__[0]
    with open(os.path.join(templates, "slurm", name), encoding="utf-8") as file:
        text = file.read()
    values = {
        "HELPER": lua_text(" ".join(map(shlex.quote, helper_words(settings)))),
        "TIMEOUT_S": str(settings.timeout_s),
        "STAMP_OPTION": lua_text(settings.stamp_option),
        "POLICY_FILE": lua_text(os.path.join(folder, POLICY_NAME)),
        "SITE_FILE": "nil" if site_file is None else lua_text(site_file),
    }
    return re.sub(r"@([A-Z_]+)@", lambda found: values[found.group(1)], text)


def helper_words(settings: Settings) -> list[str]:
    """Return the command that judges one submission, without the file of the request."""
    words = [settings.python, "-I", "-m", "preflight.commands.guard_helper"]
    return [*words, "--warn-only"] if settings.warn_only else words


def helper_problem(settings: Settings, path: str = "") -> str:
    """Run the helper on nothing; return why it would not work, empty where it would.

    With the path of an installed guard, the helper is the one that is written there.
    """
    import subprocess

    words = helper_words(settings)
    if path:
        try:
            text = read_bytes(path).decode("utf-8", "replace")
        except OSError as error:
            return f"{path} cannot be read: {error.strerror}"
        written = re.search(r"^local HELPER = \"((?:[^\"\\]|\\.)*)\"", text, re.MULTILINE)
        if written is None:
            return f"{path} names none"
        text = re.sub(r"\\(\d{3})", lambda found: chr(int(found.group(1))), written.group(1))
        words = shlex.split(text)
    try:
        done = subprocess.run(
            [*words, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=settings.timeout_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0 and done.stdout.startswith("preflight "):
        return ""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def lua_text(text: str) -> str:
    """Return a Lua string literal."""
    escaped = "".join(
        f"\\{ord(letter):03d}" if letter in '\\"' or ord(letter) < 32 else letter for letter in text
    )
    return f'"{escaped}"'

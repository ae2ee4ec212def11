"""What every command says of itself: for completion, the man page, and the tests that hold the docs to it."""

from __future__ import annotations

import contextlib
import importlib
import io
import re

from preflight.commands import COMMANDS

OPTION = re.compile(r"^ {2}(-\w, )?(--[\w-]+)( \S+)?", re.M)


def help_of(name: str) -> str:
    """Return the text of `preflight NAME --help`."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        importlib.import_module(f"preflight.commands.{COMMANDS[name][0]}").run(name, ["--help"])
    return out.getvalue()


def options_of(text: str) -> dict[str, bool]:
    """Return the long options of a help text, and whether each takes a value."""
    return {found[2]: bool(found[3]) for found in OPTION.finditer(text)}


def choices_of(text: str, option: str) -> list[str]:
    """Return the words that a help text gives for an option: `--format {text,json}`."""
    found = re.search(rf"^ {{2}}(?:-\w, )?{option} \{{([^}}]+)\}}", text, re.M)
    return found[1].split(",") if found else []

"""The command line of prime-rl: TOML files behind `@`, for all of a config or for one section, and keys that beat them.

Source: docs/configuration.md and prime_rl/configs of its repository, November 2026 (pydantic-config's `cli`): files are merged
in order, `--section @ FILE` is a file of one section, `--a.b-c 1` is the key a.b_c, `--flag` and `--no-flag` are switches.
"""

from __future__ import annotations

from preflight.errors import BadInput
from preflight.formats.toml import toml_leaves
from preflight.launch import LaunchCommand
from preflight.launchers.literal_words import literal_of
from preflight.setting import Place, Setting

USAGE = "uv run sft @ FILE.toml --data.seq-len 4096"


def read_words(command: LaunchCommand, first: int) -> dict[str, Setting]:
    """Return every key that a command gives, from an argv index on; raise BadInput where a file cannot be read."""
    argv = command.argv
    files: dict[str, Setting] = {}
    flags: dict[str, Setting] = {}
    section, at = "", first
    while at < len(argv):
        word = argv[at]
        if word == "@":
            if at + 1 >= len(argv):
                raise BadInput.one("no file behind @", "the command after --", USAGE, "PF141")
            for key, setting in toml_leaves(command, argv[at + 1], "@").items():
                files[f"{section}.{key}" if section else key] = setting
            section, at = "", at + 2
        elif word.startswith("--"):
            name, is_joined, text = word[2:].partition("=")
            key = name.replace("-", "_")
            after = argv[at + 1] if at + 1 < len(argv) and not is_joined else ""
            if after == "@":
                section, at = key, at + 1
                continue
            place = Place("argv", "", f"--{name}", index=at)
            if is_joined or (after and not after.startswith("--")):
                flags[key] = Setting(literal_of(text if is_joined else after), place)
                at += 1 if is_joined else 2
            else:
                flags[key.removeprefix("no_")] = Setting(not key.startswith("no_"), place)
                at += 1
        else:
            at += 1
    return {**files, **flags}

"""The commands of `bash -c TEXT` and `eval TEXT`, each as a layer of its own."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from preflight.errors import BadInput
from preflight.launch import LaunchCommand
from preflight.shell.starters.layers import Layer
from preflight.shell.starters.wrapper_notes import notes_on


def behind_options(argv: Sequence[str]) -> tuple[int, bool]:
    """Return where the words behind a shell's options begin, and whether the first of them is a text to run, as with `-c`."""
    index = 1
    while index < len(argv) and argv[index][:1] in ("-", "+") and len(argv[index]) > 1:
        word = argv[index]
        index += 1
        is_short = not word.startswith("--")
        if word in ("--rcfile", "--init-file") or (is_short and {"o", "O"} & set(word)):
            index += 1  # -euo pipefail
        if is_short and word.startswith("-") and "c" in word:
            return index, True
    return index, False


def shell_layers(command: LaunchCommand, name: str) -> list[Layer]:
    """Return a layer per command of `bash -c TEXT`; a script file is no layer."""
    argv = command.argv
    index, is_text = behind_options(argv)
    if not is_text or index >= len(argv):
        return []
    # A shell sets PWD itself, whatever it was given.
    env = {**command.env, "PWD": os.path.abspath(command.cwd)}
    return _commands_of(command, name, index, env)


def eval_layers(command: LaunchCommand) -> list[Layer]:
    """Return a layer per command of what `eval` makes of its words: it joins them and reads the text again."""
    joined = replace(command, argv=("eval", " ".join(command.argv[1:])))
    layers = _commands_of(joined, "eval", 1, command.env)
    if len(layers) == 1 and layers[0].inner.argv == command.argv[1:] and len(command.argv) > 2:
        return [replace(layers[0], command=command, start=1, script=None, is_text=True)]
    return layers


def _commands_of(
    command: LaunchCommand, name: str, index: int, env: Mapping[str, str]
) -> list[Layer]:
    """Return a layer per command of a text in one of the words."""
    from preflight.shell.commands import CannotTell, parse_script  # most launches have no shell

    shown = name if name == "eval" else f"{name} -c"
    try:
        commands = parse_script(command.argv[index], env)
    except CannotTell as reason:
        raise BadInput.one(
            f"{shown}: preflight cannot follow {reason} in the command",
            shown,
            "put preflight in front of the launcher, inside the quotes",
            "PF131",
        ) from None
    layers = []
    for position, one in enumerate(commands):
        folder = command.resolve(one.folder) if one.folder else command.cwd
        is_placed = command.in_container and os.path.isabs(one.folder or "")
        inner = replace(command, argv=one.argv, env=dict(one.env), cwd=folder)
        notices = tuple(notes_on("shell", [], (), 0, commands[:position], one))
        layers.append(
            Layer(
                name,
                command,
                inner,
                index,
                script=one,
                assigned=one.assigned,
                sees_copies=command.inside(folder) is not None if is_placed else None,
                notices=notices,
            )
        )
    return layers

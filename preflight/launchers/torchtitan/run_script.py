"""What torchtitan's run_train.sh starts, with the variables and the words that it is given."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from preflight.errors import BadInput
from preflight.formats.load import launch_text
from preflight.launch import LaunchCommand
from preflight.launchers.torchrun import LAUNCHER as TORCHRUN
from preflight.shell.grammar.parser import parse
from preflight.shell.grammar.syntax import CannotRead
from preflight.shell.grammar.text import Text, TooManySteps, known
from preflight.shell.meaning.files import Files
from preflight.shell.meaning.running import Leave, Status
from preflight.shell.meaning.state import World, state_of
from preflight.shell.reader import Reader
from preflight.shell.starters.program_names import called
from preflight.values import dataclass


@dataclass(frozen=True)
class Started:
    """The command that the script ends in."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    given: Mapping[int, int]
    """Index in this argv -> index in the argv of the command that was typed, of the words that `"$@"` handed on."""

    @property
    def is_torchrun(self) -> bool:
        return TORCHRUN.first_argument(self.argv) is not None


def started_by(command: LaunchCommand, at: int) -> Started:
    """Return what the script at an argv index starts; raise BadInput where that is no training of torchtitan."""
    path = command.argv[at]
    arguments = command.argv[at + 1 :]
    found: list[tuple[tuple[str, ...], Mapping[str, str]]] = []

    def start(reader: Reader, words: list[Text], own: Mapping[str, Text]) -> Status:
        argv = tuple(word.shown for word in words)
        what = called(argv)
        if TORCHRUN.first_argument(argv) is not None or (
            what is not None and what.kind == "module"
        ):
            values = {**reader.state.environment(), **own}
            found.append((argv, {name: value.shown for name, value in values.items()}))
        return None

    cwd = os.path.abspath(command.cwd)
    state = state_of(World(Files(opens=False)), command.env, arguments, cwd, known(path))
    # What was found before a text that cannot be followed is what the script starts.
    with suppress(Leave, CannotRead, TooManySteps, RecursionError):
        Reader(state, start).follow(parse(known(launch_text(command, path))))
    if not found:
        raise BadInput.one(
            f"{path} has no line that starts torchrun",
            path,
            "give the torchrun command itself",
            "PF111",
        )
    argv, env = found[0]
    return Started(argv, env, _handed_on(argv, arguments, at + 1))


def _handed_on(argv: Sequence[str], arguments: Sequence[str], first: int) -> dict[int, int]:
    """Return where the script's own words stand in what it starts: one behind the other, the last time they do."""
    count = len(arguments)
    for start in range(len(argv) - count, 0, -1):
        if count and tuple(argv[start : start + count]) == tuple(arguments):
            return {start + index: first + index for index in range(count)}
    return {}

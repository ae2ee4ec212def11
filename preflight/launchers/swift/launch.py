"""What starts ms-swift's ranks: its own command, which calls torchrun where a variable counts ranks, or another launcher.

Source: use_torchrun and get_torchrun_args in cli/main.py of ms-swift 3.0 to 4.6.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.launch import LaunchCommand
from preflight.launchers.launcher_in_front import Front, launcher_in_front
from preflight.launchers.python.plan import python_part
from preflight.launchers.swift import COMMANDS
from preflight.launchers.torchrun.plan import torchrun_part
from preflight.reading import Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_options import ParsedOptions
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.shell.starters.program_names import program_name

COUNTS = ("NPROC_PER_NODE", "NNODES")
"""Variables of which one is enough for the command to call torchrun."""
HANDED_ON = (*COUNTS, "NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
"""Variables that become torchrun's flags."""


def cli_part(command: LaunchCommand, first: int) -> Reading[LauncherPart]:
    """Return how many ranks the command starts: torchrun's where a variable says so, else one."""
    env = command.env
    own = Place("argv", "", command.argv[0], index=0)
    if not any(name in env for name in COUNTS):
        return Reading(replace(python_part(command, own, first, first), name="swift"))
    given = {
        # A script's own variable that nobody knows is as good as none.
        name.lower(): Setting("" if "$" in env[name] else env[name], Place("env", "", name))
        for name in HANDED_ON
        if name in env
    }
    reading = torchrun_part(
        command, ParsedOptions(given=given, first_index=first, script_index=first)
    )
    part = replace(reading.value, name="swift", mode_place=own)
    return Reading(part, reading.problems)


def front(command: LaunchCommand) -> Reading[Front] | None:
    """Return what accelerate, torchrun, deepspeed or python decides in front of ms-swift's own script."""
    return launcher_in_front(command, lambda at: script_command(command.argv[at]) is not None)


def script_command(word: str) -> str | None:
    """Return the command that a script or module of ms-swift's is: swift/cli/sft.py, swift.cli.sft; None for others."""
    if word.endswith(".py"):
        name = program_name(word).removesuffix(".py")
        is_own = "swift/cli/" in word.replace("\\", "/")
        return name if is_own and name in COMMANDS else None
    package, _, last = word.rpartition(".")
    return last if package == "swift.cli" and last in COMMANDS else None

"""A launch that nobody reads: everything about it is open, and what a person meant instead is said."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace

from preflight.errors import BadInput, Problem
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.all import programs
from preflight.near_names import nearest_file_fix, nearest_fix
from preflight.notebooks import is_notebook
from preflight.plugin_manager import PluginManager
from preflight.shell.starters.program_names import hands_on, program_name
from preflight.shell.starters.wrapper_options import SHELLS

SHELL_ENDINGS = (".sh", ".bash", ".sbatch", ".slurm")
READERS = "`preflight hooks` lists the readers; `preflight estimate PLAN.yaml` takes what you know of it as a plan"


def unread_launch(command: LaunchCommand, plugins: PluginManager) -> LaunchPlan:
    """Return the plan of a launch that nobody reads, with the way on as its notice."""
    behind = _launcher_behind(command, plugins)
    script = "" if behind or command.in_container else _script_of(command)
    if script and not os.path.exists(command.resolve(script)):
        fix = nearest_file_fix(script, command.resolve(script))
        return unread(command, f"there is no file {script}", "the command after --", fix)
    if hands_on(command.argv):
        words = " ".join(command.argv[:3])
        return unread(
            command,
            f"no launch that trains was found in what {words} starts",
            "the command after --",
            "check the command that its machines run: preflight check -- COMMAND",
        )
    return unread(
        command,
        f"no reader knows this launcher: {' '.join(command.argv[:3])}",
        "the command after --",
        behind or _meant(command) or READERS,
    )


def unread(command: LaunchCommand, message: str, where: str, fix: str = READERS) -> LaunchPlan:
    """Return the plan of a launch of which nothing is known: it starts, and nobody says that it fits."""
    unpriced = "a launch that was not read"
    notice = Problem.left_out(message, where, unpriced, "either", fix, "PF125")
    return LaunchPlan(cwd=command.cwd, command=command, notices=(notice,))


def _meant(command: LaunchCommand) -> str:
    """Return which command says what somebody wanted to know; empty where that is not seen."""
    first = command.argv[0]
    name = program_name(first)
    if name == "sbatch":
        return f"preflight {shlex.join(command.argv)} judges the job on the nodes that may run it"
    if any(character.isspace() for character in first):
        return f"leave the quotes out: -- {first}"
    notebook = next((word for word in command.argv if is_notebook(word)), "")
    if notebook:
        return f"the cells of a notebook are read as a script: -- python {shlex.quote(notebook)}"
    if name.endswith(".py"):
        return f"put what starts it in front: -- python {shlex.join(command.argv)}"
    script = _script_of(command)
    if script:
        return f"preflight scan {shlex.quote(script)} checks the launches that stand in it; or put preflight run -- in front of them there"
    return nearest_fix(name, tuple(programs()))


def _script_of(command: LaunchCommand) -> str:
    """Return the file of shell commands that a command names; empty where it names none."""
    first, *rest = command.argv
    name = program_name(first)
    if name in (*SHELLS, "source", "."):
        return "" if "-c" in rest else next((word for word in rest if not word.startswith("-")), "")
    if name == "sbatch":
        return next((word for word in rest if word.endswith(SHELL_ENDINGS)), "")
    return first if name.endswith(SHELL_ENDINGS) else ""


def _launcher_behind(command: LaunchCommand, plugins: PluginManager) -> str:
    """Return where preflight belongs if a launcher stands behind variables or a wrapper such as srun."""
    for index in range(1, len(command.argv)):
        words, launcher = command.argv[:index], replace(command, argv=command.argv[index:])
        try:
            is_known = plugins.first("preflight_read_launch", command=launcher) is not None
        except BadInput:
            is_known = True
        if is_known:
            return f"put preflight in front of the launcher: {' '.join(words)} preflight ... -- {launcher.argv[0]} ..."
    return ""

"""mpirun and mpiexec in front of a Python script: as many processes as they are told, which find each other by MPI."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher
from preflight.shell.starters.program_names import is_python, program_name

PROGRAMS = ("mpirun", "mpiexec")


def _may_be_ours(command: LaunchCommand) -> bool:
    """Tell whether MPI starts Python; what else it starts trains nothing that is read."""
    first, *rest = command.argv or ("",)
    return program_name(first) in PROGRAMS and any(map(is_python, rest))


LAUNCHER = Launcher(
    name="mpi",
    reader="preflight.launchers.mpi.plan:read_mpi",
    in_texts=r"\bmpi(?:run|exec)[ \t][^\n]*\bpython[\d.]*[ \t]",
    recognises=_may_be_ours,
    reaches_other_nodes=True,
)

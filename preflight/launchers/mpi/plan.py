"""`mpirun -np N python train.py` as a LaunchPlan: N processes of the script.

They are ranks of one training where the script asks MPI who they are: deepspeed.init_distributed does, of its own, where
RANK is not set (deepspeed/comm/comm.py mpi_discovery, 0.19.8), and so do mpi4py, Horovod and scripts that read the
variables of Open MPI, MPICH or Slurm. Elsewhere torch finds no RANK, and each process trains alone.
"""

from __future__ import annotations

from dataclasses import replace

from preflight.errors import Problem
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launchers.mpi import LAUNCHER
from preflight.launchers.mpi.options import MpiOptions, read_options
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import read_script_arguments, read_script_engine
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_choices import OPEN_VALUES
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart, caller_environment
from preflight.shell.starters.program_names import TRAINS_NOTHING, called
from preflight.units import ceil_div

_ASKS_MPI = lazy_pattern(
    r"\bdeepspeed(?:\.init|\s*=)|\bmpi4py\b|\bhorovod\b|OMPI_COMM_WORLD|PMI_RANK|MV2_COMM|SLURM_PROCID"
)
_DEEPSPEED_FLAGS = ("--deepspeed", "--deepspeed_config")


def read_mpi(command: LaunchCommand) -> LaunchPlan | None:
    """Return the plan of a Python script that MPI starts; None where it starts something else."""
    options = read_options(command.argv)
    if options is None or options.command_index >= len(command.argv):
        return None
    what = called(command.argv[options.command_index :])
    if what is None or what.kind == "program" or what.name in TRAINS_NOTHING:
        return None
    problems = Problems()
    command = replace(command, env={**command.env, **options.env})
    script_index = options.command_index + what.position
    part = problems.take(_part(command, options, script_index))
    trainer = problems.take(read_script_arguments(command, script_index))
    engine = problems.take(read_script_engine(command, part, trainer))
    return make_plan(command, part, trainer, engine, problems)


def _part(command: LaunchCommand, options: MpiOptions, script_index: int) -> Reading[LauncherPart]:
    """Return the ranks: as many processes as MPI is told, open where the script may not know of each other."""
    place = Place("argv", "", command.argv[0], index=0)
    count = options.count or Setting(1, place)
    nodes = 1 if options.per_node is None else ceil_div(count.value, options.per_node.value)
    origins: dict[str, Origin] = {}
    problems: tuple[Problem, ...] = ()
    if options.count is None:
        reason = "it starts a process on every slot of its hosts, and nothing here says how many"
        origins["world_size"] = Origin(place.where, True, reason, OPEN_VALUES["world_size"])
        problems = (_open_ranks(reason, "-np N"),)
    elif count.value > 1 and not _asks_mpi(command, script_index):
        reason = "torch finds no RANK under MPI: each process trains alone, unless the script asks MPI who it is"
        origins["world_size"] = Origin(count.place.where, True, reason, (1,))
        problems = (_open_ranks(reason, "--set world_size=N, or torchrun on every node"),)
    is_distributed = count.value > 1 or options.count is None
    part = LauncherPart(
        name=LAUNCHER.name,
        first_option=1,
        script_index=script_index,
        ranks={"world_size": count, "num_nodes": Setting(nodes, (options.per_node or count).place)},
        mode="multi_gpu" if is_distributed else "single",
        mode_place=count.place,
        env=caller_environment(command.env),
        origins=origins,
    )
    return Reading(part, problems)


def _open_ranks(reason: str, fix: str) -> Problem:
    return Problem(f"the ranks are not known: {reason}", "mpirun", fix, "PF115", "warning")


def _asks_mpi(command: LaunchCommand, script_index: int) -> bool:
    """Tell whether the script's own text asks MPI for ranks, or DeepSpeed is to train it."""
    try:
        text = command.read_text(command.script_file(command.argv[script_index]))
    except (OSError, ValueError):
        return False
    flags = {word.partition("=")[0] for word in command.argv[script_index:]}
    return bool(flags & set(_DEEPSPEED_FLAGS)) or _ASKS_MPI.search(text) is not None

"""`mpirun -np N python train.py` as a LaunchPlan: N processes of the script.

They are ranks of one training where the script asks MPI who they are: deepspeed.init_distributed does, of its own, where
RANK is not set (deepspeed/comm/comm.py mpi_discovery, 0.19.8), and so do mpi4py, Horovod and scripts that read the
variables of Open MPI, MPICH or Slurm. Elsewhere torch finds no RANK, and each process trains alone.

Source of the options: the manual pages of Open MPI 4.1 and 5.0 (mpirun), MPICH 4.2 and Intel MPI 2021 (mpiexec.hydra).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from preflight.errors import Problem
from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.launchers.mpi import LAUNCHER
from preflight.launchers.script import make_plan
from preflight.launchers.script_arguments import read_script_arguments, read_script_engine
from preflight.lazy_pattern import lazy_pattern
from preflight.plan_choices import OPEN_VALUES
from preflight.reading import Problems, Reading
from preflight.setting import Place, Setting
from preflight.shell.starters.launcher_part import LauncherPart, caller_environment
from preflight.shell.starters.program_names import TRAINS_NOTHING, called
from preflight.units import ceil_div
from preflight.values import dataclass

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
    engine = problems.take(read_script_engine(command, part, trainer, problems))
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


COUNTS = frozenset({"np", "n", "c"})
PER_NODE = frozenset({"N", "npernode", "ppn", "perhost"})
ONE = frozenset(
    {
        *COUNTS, *PER_NODE, "H", "host", "hosts", "hostfile", "machinefile", "f", "x", "bind-to", "map-by", "rank-by", "wdir",
        "wd", "prefix", "path", "iface", "launcher", "rmk", "tune", "timeout", "output-filename", "npersocket", "genvlist",
        "envlist", "report-pid", "report-uri", "app", "mpi", "pmi-port", "bootstrap", "usize", "stdin", "output", "cpu-list",
        "max-restarts", "rankfile", "rf", "am", "personality",
    }
)  # fmt: skip
"""Options with a value behind them."""
TWO = frozenset({"mca", "gmca", "pmca", "omca", "genv", "env"})
"""Options with a name and a value behind them."""
NONE = frozenset(
    {
        "allow-run-as-root", "oversubscribe", "nooversubscribe", "tag-output", "timestamp-output", "report-bindings",
        "display-map", "display-allocation", "display", "bynode", "byslot", "bycore", "use-hwthread-cpus", "merge-stderr-to-stdout", "q",
        "quiet", "v", "verbose", "l", "prepend-rank", "genvall", "genvnone", "envall", "envnone", "enable-recovery",
        "disable-recovery", "continuous", "forward-signals", "get-stack-traces", "novm", "nolocal", "xterm",
    }
)  # fmt: skip


@dataclass(frozen=True)
class MpiOptions:
    """What stands in front of the command that MPI starts."""

    count: Setting | None
    per_node: Setting | None
    command_index: int
    """argv index of the command."""
    env: Mapping[str, str]
    """Variables that it is told to set for every process."""


def read_options(argv: Sequence[str]) -> MpiOptions | None:
    """Return the options; None where one of them is not known, since the command could stand anywhere behind it."""
    found: dict[str, Setting] = {}
    env: dict[str, str] = {}
    index = 1
    while index < len(argv) and argv[index].startswith("-"):
        name, is_joined, text = argv[index].lstrip("-").partition("=")
        values = argv[index + 1 : index + 3]
        place = Place("argv", "", argv[index].partition("=")[0], index=index)
        if name in TWO:
            if name in ("genv", "env") and len(values) == 2:
                env[values[0]] = values[1]
            index += 3
        elif name in NONE:
            index += 1
        elif name in ONE:
            value = text if is_joined else next(iter(values), "")
            found[name] = Setting(value, place)
            if name == "x" and "=" in value:
                variable, _, text = value.partition("=")
                env[variable] = text
            index += 1 if is_joined else 2
        else:
            return None
    return MpiOptions(_number(found, COUNTS), _number(found, PER_NODE), index, env)


def _number(found: Mapping[str, Setting], names: frozenset[str]) -> Setting | None:
    said = next((found[name] for name in found if name in names), None)
    if said is None or not str(said.value).isdecimal() or int(said.value) < 1:
        return None
    return Setting(int(said.value), said.place)

"""The options of mpirun and mpiexec: Open MPI's, and those of MPICH, Intel MPI and MVAPICH (Hydra).

Source: the manual pages of Open MPI 4.1 and 5.0 (mpirun), MPICH 4.2 and Intel MPI 2021 (mpiexec.hydra).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from preflight.setting import Place, Setting
from preflight.values import dataclass

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

"""What a job really got, seen from inside it: the GPUs of all its nodes, and what the job asked for."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping

from preflight.slurm.commands import Running
from preflight.slurm.hostlist import host_list, host_names
from preflight.slurm.options import GpuCount, SubmitOptions
from preflight.units import GIB, format_gib
from preflight.values import dataclass

TIMEOUT_S = 30.0
"""For one step of all nodes: a node that boots or hangs is not waited for longer."""
OF_A_STEP = ("SLURM_PROLOG", "SLURM_TASK_PROLOG", "SLURM_EPILOG", "SLURM_TASK_EPILOG")
"""Variables that would run a hook of ours inside our own step, and that again."""


@dataclass(frozen=True)
class NodeGpu:
    """The smallest GPU of one node of the job."""

    node: str
    name: str
    capacity_bytes: int
    count: int | None = None

    @property
    def words(self) -> str:
        """The device as `--device` takes it, with exactly this memory."""
        return f"{self.name}:{self.capacity_bytes / GIB:.4f}"


@dataclass(frozen=True)
class Allocation:
    """The GPUs of a job's nodes."""

    gpus: tuple[NodeGpu, ...]
    silent: tuple[str, ...]
    """Nodes that did not say what they have."""

    @property
    def smallest(self) -> NodeGpu | None:
        return min(self.gpus, key=lambda gpu: gpu.capacity_bytes, default=None)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the nodes: that they differ, or that some said nothing."""
        told = []
        sizes: dict[str, list[str]] = {}
        for gpu in self.gpus:
            sizes.setdefault(f"{gpu.name}, {format_gib(gpu.capacity_bytes)}", []).append(gpu.node)
        if len(sizes) > 1:
            listed = "; ".join(f"{host_list(nodes)}: {size}" for size, nodes in sizes.items())
            told.append(f"the nodes of the job differ, and the smallest GPU decides: {listed}")
        if self.silent and self.gpus:
            told.append(f"the GPUs of {host_list(self.silent)} are not known")
        return tuple(told)


def is_in_job(env: Mapping[str, str]) -> bool:
    """Tell whether this is the batch script, or the shell, of a Slurm job, and not one of its steps."""
    return "SLURM_JOB_ID" in env and env.get("SLURM_STEP_ID", "") in ("", "4294967291")


def num_nodes(env: Mapping[str, str]) -> int:
    """Return the nodes of the job around this process."""
    text = env.get("SLURM_NNODES") or env.get("SLURM_JOB_NUM_NODES") or ""
    return int(text) if text.isdecimal() else 1


def ask_nodes(env: Mapping[str, str]) -> Allocation:
    """Ask every node of the job for its smallest GPU, in a step beside whatever else the job runs."""
    names = host_names(env.get("SLURM_JOB_NODELIST", ""))
    words = ["srun", "--ntasks-per-node=1", "--kill-on-bad-exit=0", "--overlap", "--quiet"]
    if names:
        words += [f"--nodes={len(names)}", f"--ntasks={len(names)}"]
    words += [sys.executable, "-I", "-m", "preflight.slurm.node_device"]
    own = {name: text for name, text in env.items() if name not in OF_A_STEP}
    text = Running(words, own).answer(time.monotonic() + TIMEOUT_S)
    gpus, spoke = [], set()
    for line in text.splitlines():
        start = line.find('{"preflight_node"')
        if start < 0:
            continue
        try:
            said = json.loads(line[start:])
        except ValueError:
            continue
        if said.get("name"):
            node = str(said["preflight_node"])
            spoke.add(node)
            gpus.append(NodeGpu(node, said["name"], int(said["capacity_bytes"]), said.get("count")))
    order = {name: index for index, name in enumerate(names)}
    gpus.sort(key=lambda gpu: order.get(gpu.node, len(order)))
    return Allocation(tuple(gpus), tuple(name for name in names if name not in spoke))


def options_of_job(env: Mapping[str, str]) -> SubmitOptions:
    """Return what the job around this process has, from the variables that sbatch and salloc set."""

    def number(name: str) -> int | None:
        text = env.get(name, "").partition("(")[0]
        return int(text) if text.isdecimal() else None

    origins = {}
    values: dict[str, int | None] = {}
    for field, name in (
        ("min_nodes", "SLURM_NNODES"),
        ("ntasks", "SLURM_NTASKS"),
        ("ntasks_per_node", "SLURM_NTASKS_PER_NODE"),
        ("cpus_per_task", "SLURM_CPUS_PER_TASK"),
    ):
        values[field] = number(name)
        if values[field] is not None:
            origins[field] = f"${name}"
    gpus = number("SLURM_GPUS_ON_NODE")
    if gpus:
        origins["gpus_per_node"] = "$SLURM_GPUS_ON_NODE"
    return SubmitOptions(
        min_nodes=values["min_nodes"],
        ntasks=values["ntasks"],
        ntasks_per_node=values["ntasks_per_node"],
        cpus_per_task=values["cpus_per_task"],
        gpus_per_node=(GpuCount("", gpus),) if gpus else (),
        origins=origins,
    )

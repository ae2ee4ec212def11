"""What a submission asks Slurm for: command line over environment over `#SBATCH` lines, each value with its origin.

Source of the order: sbatch(1) of Slurm 24.11, "Environment variables will override any options set in a
batch script, and command line options will override any environment variables".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, fields, replace
from typing import Any

from preflight.slurm.hostlist import MOST_NAMES
from preflight.slurm.option_words import OptionWord, options_of_environment, split_words
from preflight.values import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class GpuCount:
    """So many GPUs of one type; an empty type is any."""

    type: str
    count: int


@dataclass(frozen=True)
class SubmitOptions:
    """The options of one component of a job; None where nobody gave a value."""

    partitions: tuple[str, ...] = ()
    nodelist: str | None = None
    """As written: `gpu-[01-04],big-01`."""
    exclude: str | None = None
    constraint: str | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    """None without a range."""
    ntasks: int | None = None
    ntasks_per_node: int | None = None
    cpus_per_task: int | None = None
    cpus_per_gpu: int | None = None
    gpus: tuple[GpuCount, ...] = ()
    """`--gpus`: of the whole job."""
    gpus_per_node: tuple[GpuCount, ...] = ()
    """`--gpus-per-node`, or the GPUs of `--gres`."""
    gpus_per_task: tuple[GpuCount, ...] = ()
    gpus_per_socket: tuple[GpuCount, ...] = ()
    gres: str | None = None
    """`--gres` as written, GPUs and all else."""
    mem_bytes: int | None = None
    """Host memory per node; 0 is all of it."""
    mem_per_cpu_bytes: int | None = None
    mem_per_gpu_bytes: int | None = None
    exclusive: bool = False
    """Whole nodes, with all their GPUs."""
    time: str | None = None
    array: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    chdir: str | None = None
    export: str | None = None
    wrap: str | None = None
    extra: str | None = None
    comment: str | None = None
    job_name: str | None = None
    test_only: bool = False
    parsable: bool = False
    unread: tuple[str, ...] = ()
    """Options whose value is not understood, as written; they are passed on all the same."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Field -> `--mem=80G`, `SBATCH_GRES`, `job.sh:4`."""
    het: tuple[SubmitOptions, ...] = ()
    """The further components of a heterogeneous job."""

    @property
    def components(self) -> tuple[SubmitOptions, ...]:
        """Every component of the job, this one first."""
        return (replace(self, het=()), *self.het)

    @property
    def num_nodes(self) -> int:
        """Nodes that the job gets at least."""
        if self.min_nodes is not None:
            return self.min_nodes
        if self.ntasks is not None and self.ntasks_per_node:
            return -(-self.ntasks // self.ntasks_per_node)
        return 1

    @property
    def num_tasks(self) -> int:
        """Tasks that `srun` starts unless it is told otherwise."""
        if self.ntasks is not None:
            return self.ntasks
        return (self.ntasks_per_node or 1) * self.num_nodes

    @property
    def wants_gpus(self) -> bool:
        return self.exclusive or bool(self.requested_gpus)

    @property
    def requested_gpus(self) -> tuple[GpuCount, ...]:
        """GPUs as asked for, whatever they are counted by."""
        return self.gpus + self.gpus_per_node + self.gpus_per_task + self.gpus_per_socket

    @property
    def gpu_types(self) -> frozenset[str]:
        """The types that are named; empty where any will do."""
        return frozenset(gpu.type for gpu in self.requested_gpus if gpu.type)

    @property
    def num_gpus_per_node(self) -> int | None:
        """GPUs of every node; None where the options leave it to the nodes or to the scheduler."""
        if self.gpus_per_node:
            return sum(gpu.count for gpu in self.gpus_per_node)
        if self.gpus_per_task:
            per_task = sum(gpu.count for gpu in self.gpus_per_task)
            per_node = self.ntasks_per_node or -(-self.num_tasks // self.num_nodes)
            return per_task * per_node
        if self.gpus:
            whole = sum(gpu.count for gpu in self.gpus)
            if self.num_nodes == 1 and self.min_nodes is not None:
                return whole
            return whole // self.num_nodes if whole % self.num_nodes == 0 else None
        return None


MOST_BYTES = 1 << 60
MOST_COUNT = 1 << 31
"""Of tasks, CPUs or GPUs: no cluster has as many."""
_NAMES = {
    "partition": "partitions",
    "nodes": "min_nodes",
    "mem": "mem_bytes",
    "mem-per-cpu": "mem_per_cpu_bytes",
    "mem-per-gpu": "mem_per_gpu_bytes",
    "job-name": "job_name",
    "test-only": "test_only",
    "ntasks-per-node": "ntasks_per_node",
    "cpus-per-task": "cpus_per_task",
    "cpus-per-gpu": "cpus_per_gpu",
    "gpus-per-node": "gpus_per_node",
    "gpus-per-task": "gpus_per_task",
    "gpus-per-socket": "gpus_per_socket",
    "tres-per-task": "gpus_per_task",
}
"""Long option -> its field, where they differ."""
_FIELDS = frozenset(f.name for f in fields(SubmitOptions)) - {"unread", "origins", "het"}
_MEMORY = ("mem_bytes", "mem_per_cpu_bytes", "mem_per_gpu_bytes")


def submit_options(
    words: Sequence[str],
    env: Mapping[str, str],
    script_lines: Sequence[Sequence[OptionWord]] = (),
    program: str = "sbatch",
) -> SubmitOptions:
    """Return what a program would use: the command line over its environment over the script's lines.

    `script_lines` holds the options of the `#SBATCH` lines, component by component.
    """
    written = split_words(words, program).components
    of_environment = options_of_environment(env, program)
    number = max(len(written), len(script_lines), 1)
    components = []
    for index in range(number):
        sources = (
            script_lines[index] if index < len(script_lines) else (),
            of_environment,
            written[index] if index < len(written) else (),
        )
        components.append(_component(sources))
    return replace(components[0], het=tuple(components[1:]))


def _component(sources: Sequence[Sequence[OptionWord]]) -> SubmitOptions:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    unread: list[str] = []
    for source in sources:
        memory = [name for name in source if _field_of(name.name) in _MEMORY]
        if memory:
            # The three exclude each other; a source that names one takes back what a weaker one named.
            for name in _MEMORY:
                values.pop(name, None)
                origins.pop(name, None)
        for option in source:
            name = _field_of(option.name)
            if not option.is_known:
                unread.append(option.where)
            elif name in _FIELDS:
                try:
                    values.update(_value_of(option))
                except ValueError:
                    unread.append(option.where)
                else:
                    origins[name] = option.where
    return SubmitOptions(**values, unread=tuple(unread), origins=origins)


def _field_of(name: str) -> str:
    return _NAMES.get(name, name)


def _value_of(option: OptionWord) -> dict[str, Any]:
    """Return the field or fields that an option sets; raise ValueError where its value is not understood."""
    name, value = option.name, option.value
    own = _field_of(name)
    if name in ("test-only", "parsable"):
        return {own: True}
    if name == "exclusive":
        return {own: value in (None, "", "exclusive")}
    if value is None:
        raise ValueError(option.where)
    if name == "partition":
        return {own: tuple(item for item in value.split(",") if item)}
    if name == "nodes":
        low, dash, high = value.partition("-")
        if not 1 <= _count(low) <= MOST_NAMES:
            raise ValueError(option.where)
        return {"min_nodes": _count(low), "max_nodes": _count(high) if dash else None}
    if name in ("ntasks", "ntasks-per-node", "cpus-per-task", "cpus-per-gpu"):
        return {own: _count(value)}
    if name in ("mem", "mem-per-cpu", "mem-per-gpu"):
        return {own: memory_bytes(value)}
    if name in ("gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"):
        return {own: gpu_counts(value)}
    if name == "tres-per-task":
        gpus = gpus_of_gres(value.replace("=", ":"))
        return {own: gpus} if gpus else {}
    if name == "gres":
        gpus = gpus_of_gres(value)
        return {own: value, **({"gpus_per_node": gpus} if gpus else {})}
    return {own: value}


def _count(text: str) -> int:
    scale = {"k": 1024, "m": 1024 * 1024}.get(text[-1:].lower(), 1)
    number = int(text[:-1] if scale > 1 else text) * scale
    if not 0 <= number <= MOST_COUNT:
        raise ValueError(f"no number of anything: {text[:60]!r}")
    return number


def memory_bytes(text: str) -> int:
    """Return the bytes of `80G`, `512M` or `4096` (MiB); raise ValueError for anything else."""
    units = {"K": 1 << 10, "M": MIB, "G": 1 << 30, "T": 1 << 40}
    digits = text.strip().upper().removesuffix("B")
    unit = units.get(digits[-1:])
    number = float(digits[:-1]) if unit else float(digits)
    num_bytes = number * (unit or MIB)
    if not 0 <= num_bytes <= MOST_BYTES:  # false for what is no number
        raise ValueError(f"no size: {text[:60]!r}")
    return int(num_bytes)


def gpu_counts(text: str) -> tuple[GpuCount, ...]:
    """Return the GPUs of `8`, `h100:8` or `a100:2,v100:1`; raise ValueError for anything else."""
    return tuple(_gpu_count(item) for item in text.split(",") if item)


def gpus_of_gres(text: str) -> tuple[GpuCount, ...]:
    """Return the GPUs of a list such as `gpu:h100:8,nvme:1`; other resources are left out."""
    found = []
    for item in text.split(","):
        name, _, rest = item.strip().removeprefix("gres/").removeprefix("gres:").partition(":")
        if name == "gpu":
            found.append(_gpu_count(rest or "1"))
    return tuple(found)


def _gpu_count(text: str) -> GpuCount:
    type_, _, count = text.rpartition(":")
    if not type_ and not count[:1].isdigit():
        return GpuCount(count, 1)  # gpu:h100
    return GpuCount(type_, _count(count))

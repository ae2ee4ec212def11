"""What this node has beside its devices: host memory and its limits, shared memory, disk, CPUs, resource limits.

Everything is read from /proc, /sys and the file system, nothing is started. `root` is where these
folders are looked for, so that another machine can be described by a folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from preflight.files import entries_of
from preflight.units import KIB, MIB
from preflight.values import dataclass

LARGEST_LIMIT_BYTES = 1 << 60
"""cgroup v1 writes `no limit` as the largest multiple of a page, 0x7FFFFFFFFFFFF000."""


@dataclass(frozen=True)
class MemoryLimit:
    """A number of bytes that the processes of a launch may have on a node, and who says so."""

    num_bytes: int
    said_by: str
    """`MemAvailable`, a cgroup file, `SLURM_MEM_PER_NODE`."""


def meminfo(root: str = "/") -> dict[str, int]:
    """Return /proc/meminfo in bytes; empty where there is none."""
    found: dict[str, int] = {}
    for line in lines_of(os.path.join(root, "proc/meminfo")):
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * (KIB if words[1:] == ["kB"] else 1)
    return found


def cgroup_memory(root: str = "/") -> MemoryLimit | None:
    """Return the lowest memory limit of this process's cgroups, version 1 and 2; None where none is set."""
    limits: list[MemoryLimit] = []
    for line in lines_of(os.path.join(root, "proc/self/cgroup")):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            for base in ("sys/fs/cgroup", "sys/fs/cgroup/unified"):
                limits += _limits(root, base, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(root, "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")
    return min(limits, key=lambda limit: limit.num_bytes, default=None)


def _limits(root: str, base: str, path: str, name: str) -> list[MemoryLimit]:
    """Return the limits of a group and of all above it; in a container the path may be the host's."""
    found = []
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        file = os.path.join(root, base, *parts[:depth], name)
        text = text_of(file).strip()
        if text.isdecimal() and int(text) < LARGEST_LIMIT_BYTES:
            found.append(MemoryLimit(int(text), "/" + os.path.relpath(file, root)))
    return found


def slurm_memory(env: Mapping[str, str]) -> MemoryLimit | None:
    """Return what Slurm gives a job on one node, from the variables that sbatch and srun set, in MiB."""
    for name, per in (
        ("SLURM_MEM_PER_NODE", None),
        ("SLURM_MEM_PER_CPU", "SLURM_CPUS_ON_NODE"),
        ("SLURM_MEM_PER_GPU", "SLURM_GPUS_ON_NODE"),
    ):
        each, count = env.get(name, ""), "1" if per is None else env.get(per, "")
        if each.isdecimal() and count.isdecimal() and int(each) and int(count):
            said_by = f"${name}" if per is None else f"${name} x ${per}"
            return MemoryLimit(int(each) * int(count) * MIB, said_by)
    return None


@dataclass(frozen=True)
class Space:
    """Room in a file system."""

    path: str
    """The folder that was asked; the nearest one that exists."""
    total_bytes: int
    free_bytes: int
    """Free for this user."""


def space_at(path: str) -> Space | None:
    """Return the room where a folder is, or will be made; None where nothing of the path can be asked."""
    folder = os.path.abspath(path)
    while not os.path.isdir(folder) and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return Space(folder, found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def shared_memory(root: str) -> Space | None:
    """Return the size of /dev/shm; None where there is none."""
    path = os.path.join(root, "dev/shm")
    return space_at(path) if os.path.isdir(path) else None


def num_cpus(root: str = "/") -> int:
    """Return the CPUs that processes here may use: the affinity mask, or a lower cgroup quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota, _, period = text_of(os.path.join(root, "sys/fs/cgroup/cpu.max")).strip().partition(" ")
    if not quota.isdecimal():
        folder = os.path.join(root, "sys/fs/cgroup/cpu")
        quota = text_of(os.path.join(folder, "cpu.cfs_quota_us")).strip()
        period = text_of(os.path.join(folder, "cpu.cfs_period_us")).strip()
    if quota.isdecimal() and period.isdecimal() and int(period):
        return max(1, min(count, -(-int(quota) // int(period))))
    return count


def infiniband_devices(root: str) -> tuple[str, ...]:
    """Return the RDMA devices that the kernel lists: mlx5_0, ..."""
    return entries_of(os.path.join(root, "sys/class/infiniband"))


def resource_limits(root: str = "/") -> dict[str, int | None]:
    """Return this process's soft limits for locked memory (bytes) and open files; None is unlimited."""
    wanted = {"Max locked memory": "memlock_bytes", "Max open files": "num_open_files"}
    found: dict[str, int | None] = {}
    for line in lines_of(os.path.join(root, "proc/self/limits")):
        name = wanted.get(line[:26].strip())
        words = line[26:].split()
        if name is not None and words:
            found[name] = int(words[0]) if words[0].isdecimal() else None
    return found


def text_of(path: str) -> str:
    """Return a file's text; empty where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def lines_of(path: str) -> list[str]:
    """Return a file's lines; none where it cannot be read."""
    return text_of(path).splitlines()


def file_system_at(path: str, root: str = "/") -> str | None:
    """Return the type of the file system that holds a path, from /proc/self/mounts; None where it does not say."""
    path = os.path.realpath(path)
    best, kind = "", None
    for line in lines_of(os.path.join(root, "proc/self/mounts")):
        words = line.split()
        if len(words) < 3:
            continue
        point = words[1].replace("\\040", " ")
        is_above = path == point or path.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(best):
            best, kind = point, words[2]
    return kind

"""The nodes and partitions of the test cluster: every way in which a site may say what GPUs it has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One line of nodes that look alike."""

    names: tuple[str, ...]
    gpus: tuple[tuple[str, int], ...] = ()
    """(GRES type, count); the type is empty where the site gave none."""
    features: tuple[str, ...] = ()
    memory_mib: int = 1_000_000
    num_cores: int = 64


@dataclass(frozen=True)
class Partition:
    name: str
    nodes: tuple[str, ...]
    options: str = ""


H100 = Machine(("h100-01", "h100-02"), (("h100", 8),), ("hopper", "gpu_mem:80gb", "nvlink"))
A100_40 = Machine(("a100-01",), (("a100", 8),), ("ampere", "gpu_mem:40gb", "nvlink"))
A100_80 = Machine(("a100-02",), (("a100", 8),), ("ampere", "gpu_mem:80gb", "nvlink"))
A100_OF_UNSAID_SIZE = Machine(("old-01",), (("a100", 4),), ("ampere",), memory_mib=500_000)
L40S = Machine(("l40s-01",), (("l40s", 4),), ("ada",), memory_mib=250_000, num_cores=32)
MIG = Machine(("mig-01",), (("nvidia_a100_3g.20gb", 2), ("1g.10gb", 4)), ("ampere", "mig"))
TWO_TYPES = Machine(("mix-01",), (("l40s", 4), ("v100", 2)), ("ada", "volta"))
UNTYPED = Machine(("any-01",), (("", 2),), ("gpu_mem:24gb",))
UNKNOWN = Machine(("odd-01",), (("frobnicator", 4),))
CPU_ONLY = Machine(("cpu-01",), memory_mib=250_000)

MACHINES = (
    H100,
    A100_40,
    A100_80,
    A100_OF_UNSAID_SIZE,
    L40S,
    MIG,
    TWO_TYPES,
    UNTYPED,
    UNKNOWN,
    CPU_ONLY,
)

PARTITIONS = (
    Partition(
        "gpu", (*H100.names, *A100_40.names, *A100_80.names, *TWO_TYPES.names), "Default=YES"
    ),
    Partition("h100", H100.names, "DefMemPerGPU=100000"),
    Partition("a100", (*A100_40.names, *A100_80.names)),
    Partition("a100-all", (*A100_40.names, *A100_80.names, *A100_OF_UNSAID_SIZE.names)),
    Partition("l40s", L40S.names, "DefMemPerCPU=4000 MaxMemPerNode=200000"),
    Partition("mig", MIG.names, "DefMemPerNode=64000"),
    Partition("any", UNTYPED.names),
    Partition("odd", UNKNOWN.names),
    Partition("cpu", CPU_ONLY.names),
)

NODE_NAMES = tuple(name for machine in MACHINES for name in machine.names)


def node_lines(ports: dict[str, int]) -> list[str]:
    """Return the NodeName and PartitionName lines of slurm.conf; every node is this host on a port of its own."""
    lines = []
    for machine in MACHINES:
        gres = ",".join(f"gpu:{kind}:{n}" if kind else f"gpu:{n}" for kind, n in machine.gpus)
        for name in machine.names:
            words = [
                f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[name]}",
                f"Sockets=2 CoresPerSocket={machine.num_cores // 2} ThreadsPerCore=1",
                f"RealMemory={machine.memory_mib} State=UNKNOWN",
            ]
            if gres:
                words.append(f"Gres={gres}")
            if machine.features:
                words.append(f"Feature={','.join(machine.features)}")
            lines.append(" ".join(words))
    for part in PARTITIONS:
        nodes = ",".join(part.nodes)
        lines.append(f"PartitionName={part.name} Nodes={nodes} State=UP {part.options}".rstrip())
    return lines


def gres_lines(device: str) -> list[str]:
    """Return gres.conf; `device` and a number is a character device, which Slurm wants of every GPU."""
    lines = ["AutoDetect=off"]
    for machine in MACHINES:
        first = 0
        for kind, count in machine.gpus:
            of_type = f" Type={kind}" if kind else ""
            for name in machine.names:
                files = f"{device}[{first}-{first + count - 1}]"
                lines.append(f"NodeName={name} Name=gpu{of_type} File={files}")
            first += count
    return lines

"""The nodes and partitions of a cluster, as Slurm's own commands tell them to anybody, without pyslurm and without a GPU.

Nodes from `sinfo`, which says of a thousand nodes in 0.1 MB what JSON says in 2.5; where it is missing or says
something else, from `scontrol show node --json`, and without the JSON plugin (or before Slurm 21.08) from
`scontrol -o show node`. A test holds the three to one answer.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from preflight.lazy_pattern import lazy_pattern
from preflight.slurm.commands import Running
from preflight.slurm.options import MIB, GpuCount, gpus_of_gres
from preflight.values import dataclass

TIMEOUT_S = 5.0
"""For all questions together: a controller that is down or overloaded is not waited for."""
UNLIMITED = ("", "UNLIMITED", "INFINITE", "(null)", "N/A", "0")
SINFO_FIELDS = "%N|%P|%G|%b|%T|%m|%c"
_WORD = lazy_pattern(r"(\w+)=(\S*)")


class NoInventory(Exception):
    """Slurm did not say what nodes there are; the text is for a person."""


@dataclass(frozen=True)
class Node:
    """One node of a cluster."""

    name: str
    partitions: tuple[str, ...] = ()
    gpus: tuple[GpuCount, ...] = ()
    """By GRES type, lower case; empty where the site gave none."""
    features: tuple[str, ...] = ()
    memory_bytes: int | None = None
    """Host memory that Slurm may give away."""
    num_cpus: int | None = None
    state: str = ""


@dataclass(frozen=True)
class Partition:
    """What a partition gives a job that does not ask."""

    name: str
    is_default: bool = False
    is_exclusive: bool = False
    """Every job gets whole nodes."""
    memory_per_node_bytes: int | None = None
    memory_per_cpu_bytes: int | None = None
    memory_per_gpu_bytes: int | None = None
    cpus_per_gpu: int | None = None
    limits_memory: bool = True
    """Of the whole cluster: whether host memory is given away at all, so that a job is held to its part."""


@dataclass(frozen=True)
class Inventory:
    """All nodes, and how they were learned."""

    nodes: tuple[Node, ...]
    partitions: Mapping[str, Partition]
    source: str
    """`sinfo`, `scontrol --json show node`."""

    @property
    def default_partition(self) -> str | None:
        return next((p.name for p in self.partitions.values() if p.is_default), None)


class Question:
    """Slurm asked for its nodes and partitions: it answers while something else is done."""

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._env = env
        self._deadline = time.monotonic() + TIMEOUT_S
        self._nodes = Running(("sinfo", "-a", "-h", "-N", "-o", SINFO_FIELDS), env)
        self._partitions = Running(("scontrol", "--all", "-o", "show", "partition"), env)

    def answer(self) -> Inventory:
        """Return the nodes and partitions; raise NoInventory where Slurm does not say."""
        text = self._nodes.answer(self._deadline)
        nodes = nodes_of_sinfo(text)
        partitions = partitions_of_text(self._partitions.answer(self._deadline))
        if nodes:
            return Inventory(nodes, partitions or partitions_of_sinfo(text), "sinfo")
        for option, reader in (("--json", nodes_of_json), ("--oneliner", nodes_of_text)):
            if time.monotonic() >= self._deadline:
                raise NoInventory(f"Slurm did not list its nodes within {TIMEOUT_S:g} s")
            words = ("scontrol", "--all", option, "show", "node")
            nodes = reader(Running(words, self._env).answer(self._deadline))
            if nodes:
                return Inventory(nodes, partitions, " ".join((words[0], *words[2:])))
        raise NoInventory("neither scontrol nor sinfo lists the nodes of the cluster")


def read_inventory(env: Mapping[str, str] | None = None) -> Inventory:
    """Ask Slurm for its nodes and partitions; raise NoInventory where it does not say."""
    return Question(env).answer()


def default_memory(env: Mapping[str, str] | None = None) -> Partition:
    """Return what the cluster gives a job in a partition without rules of its own, as a nameless partition.

    Memory is given away where SelectTypeParameters says so, CR_Core_Memory and the like (slurm.conf(5)).
    """
    running = Running(("scontrol", "show", "config"), env)
    text = running.answer(time.monotonic() + TIMEOUT_S)
    words = dict(re.findall(r"^(\w+)\s*=\s*(\S+)", text, re.MULTILINE))
    select = words.get("SelectTypeParameters", "MEMORY").upper()
    return replace(_partition(words), limits_memory="MEMORY" in select)


def nodes_of_json(text: str) -> tuple[Node, ...]:
    """Return the nodes of `scontrol show node --json`, of every data parser since 21.08; none of anything else."""
    try:
        listed = [node for node in json.loads(text)["nodes"] if isinstance(node, dict)]
    except (ValueError, KeyError, TypeError):
        return ()
    found = []
    for node in listed:
        features = _listed(node.get("active_features")) or _listed(node.get("features"))
        found.append(
            Node(
                str(node.get("name", "")),
                _listed(node.get("partitions")),
                gpus_of_node(str(node.get("gres") or "")),
                features,
                _mib(node.get("real_memory")),
                _number(node.get("effective_cpus")) or _number(node.get("cpus")),
                "+".join(_listed(node.get("state"))),
            )
        )
    return tuple(found)


def _listed(value: Any) -> tuple[str, ...]:
    """Return a list of words; parsers before v0.0.40 write one text."""
    if isinstance(value, str):
        value = value.split(",")
    return tuple(str(item) for item in value or () if item)


def _number(value: Any) -> int | None:
    if isinstance(value, dict):  # {"set": true, "infinite": false, "number": 64}
        value = value.get("number") if value.get("set") else None
    try:
        number = int(value)
    except (TypeError, ValueError):
        return None
    return number if number > 0 else None


def _mib(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else number * MIB


def nodes_of_text(text: str) -> tuple[Node, ...]:
    """Return the nodes of `scontrol -o show node`, which every version of Slurm can say."""
    found = []
    for line in text.splitlines():
        words: dict[str, str] = {}
        for name, value in _WORD.findall(line):
            words.setdefault(name, value)
        if "NodeName" not in words:
            continue
        features = _said(words.get("ActiveFeatures", "")) or _said(words.get("Features", ""))
        found.append(
            Node(
                words["NodeName"],
                _listed(words.get("Partitions")),
                gpus_of_node(_said(words.get("Gres", ""))),
                _listed(features),
                _mib(words.get("RealMemory")),
                _number(words.get("CPUEfctv")) or _number(words.get("CPUTot")),
                words.get("State", ""),
            )
        )
    return tuple(found)


def _said(text: str) -> str:
    return "" if text in ("(null)", "N/A") else text


def nodes_of_sinfo(text: str) -> tuple[Node, ...]:
    """Return the nodes of `sinfo -N -o` with SINFO_FIELDS, which has a line for a node in each partition."""
    lines: dict[str, list[str]] = {}
    partitions: dict[str, list[str]] = {}
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) == 7:
            lines[fields[0]] = fields
            partitions.setdefault(fields[0], []).append(fields[1].rstrip("*"))
    return tuple(
        Node(
            name,
            tuple(partitions[name]),
            gpus_of_node(_said(gres)),
            _listed(_said(features)),
            _mib(memory.rstrip("+")),
            _number(cpus.rstrip("+")),
            state,
        )
        for name, _, gres, features, state, memory, cpus in lines.values()
    )


def partitions_of_sinfo(text: str) -> dict[str, Partition]:
    """Return the partitions of the same lines; the default one has a star."""
    names = [fields[1] for fields in (line.split("|") for line in text.splitlines()) if fields[1:]]
    return {name.rstrip("*"): Partition(name.rstrip("*"), name.endswith("*")) for name in names}


@lru_cache(maxsize=256)
def gpus_of_node(gres: str) -> tuple[GpuCount, ...]:
    """Return the GPUs of a node's GRES, `gpu:h100:8(S:0-1),gpu:v100:2,nvme:1`; a type in two parts is one."""
    counts: dict[str, int] = {}
    plain = re.sub(r"\([^)]*\)", "", gres)
    for item in plain.split(","):
        try:
            gpus = gpus_of_gres(item)
        except ValueError:
            continue
        for gpu in gpus:
            counts[gpu.type.lower()] = counts.get(gpu.type.lower(), 0) + gpu.count
    return tuple(GpuCount(type_, count) for type_, count in counts.items() if count)


def partitions_of_text(text: str) -> dict[str, Partition]:
    """Return the partitions of `scontrol -o show partition`."""
    found = {}
    for line in text.splitlines():
        words = dict(_WORD.findall(line))
        if "PartitionName" in words:
            found[words["PartitionName"]] = _partition(words)
    return found


def _partition(words: Mapping[str, str]) -> Partition:
    """Return a partition from the words of `scontrol show partition`, or of `show config`."""
    per_gpu = re.search(r"DefMemPerGPU=(\d+)", words.get("JobDefaults", ""))
    cpus_per_gpu = re.search(r"DefCpuPerGPU=(\d+)", words.get("JobDefaults", ""))

    def mib(name: str) -> int | None:
        value = words.get(name, "")
        return None if value in UNLIMITED else _mib(value)

    return Partition(
        words.get("PartitionName", ""),
        words.get("Default") == "YES",
        words.get("OverSubscribe") == "EXCLUSIVE",
        mib("DefMemPerNode"),
        mib("DefMemPerCPU"),
        int(per_gpu.group(1)) * MIB if per_gpu else mib("DefMemPerGPU"),
        int(cpus_per_gpu.group(1)) if cpus_per_gpu else None,
    )

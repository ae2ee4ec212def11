"""What nodes have, for people: one node as a list, several as a table with the differences marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from preflight.node.report import differences
from preflight.render.page import Page
from preflight.units import format_gib

NOTHING = "-"
MARK = "*"


def node_lines(node: Mapping[str, Any], page: Page) -> list[str]:
    """Return the lines about one node."""
    num_devices = len(node["devices"])
    lines = [
        f"preflight: {node['host']} has {num_devices} GPU{'' if num_devices == 1 else 's'},"
        f" {_gib(node['host_memory']['total_bytes'])} of host memory, {node['num_cpus']} CPUs"
    ]
    for index, device in enumerate(node["devices"]):
        lines += page.wrap(_device_line(index, device), "  ", "      ")
    lines += page.table([(f"{name}", text) for name, text in _facts(node)])
    lines.append("next: nothing was started; `preflight check` uses the same facts")
    return lines


def _device_line(index: int, device: Mapping[str, Any]) -> str:
    held = "; ".join(
        f"{holder['name']} (pid {holder['pid']}) holds {_gib(holder['used_bytes'])}"
        for holder in device["holders"]
    )
    capability = device["compute_capability"]
    parts = [
        f"GPU {index}  {device['name']}",
        f"{_gib(device['free_bytes'])} free of {_gib(device['total_bytes'])}",
        f"compute capability {capability}" if capability else "",
        "MIG" if device["is_mig"] else "",
        held,
    ]
    return ", ".join(part for part in parts if part)


def _facts(node: Mapping[str, Any]) -> list[tuple[str, str]]:
    memory, limits, network = node["host_memory"], node["limits"], node["network"]
    driver, build = node["driver"], node["build"]
    rows = [("driver", _driver(driver)), ("CUDA_VISIBLE_DEVICES", node["visible_devices"])]
    rows += [
        ("packages", _packages(node)),
        ("python", node["python"]),
        ("nvcc", build["nvcc"]),
        ("CUDA_HOME", build["cuda_home"]),
        ("ninja", build["ninja"]),
        (
            "host memory",
            f"{_gib(memory['available_bytes'])} available of {_gib(memory['total_bytes'])}",
        ),
        ("cgroup limit", _limit(memory["cgroup_limit"])),
        ("Slurm limit", _limit(memory["slurm_limit"])),
        ("/dev/shm", _space(node["shared_memory"])),
        ("locked memory", _unlimited(limits, "memlock_bytes", as_bytes=True)),
        ("open files", _unlimited(limits, "num_open_files", as_bytes=False)),
    ]
    rows += [(f"disk, {name}", _space(space)) for name, space in node["disk"].items()]
    rows += [(f"network, {k}", ", ".join(v)) for k, v in network["addresses"].items()]
    rows.append(("InfiniBand", ", ".join(network["infiniband"])))
    return [(name, text or "none") for name, text in rows]


COLUMNS = ("node", "GPUs", "free", "driver", "torch", "host free", "limit", "shm", "CPUs")


def nodes_lines(
    nodes: Sequence[Mapping[str, Any]], missing: Sequence[str], page: Page
) -> list[str]:
    """Return a table of nodes; what a node does not share with most of the others has a mark."""
    found = differences(nodes)
    lines = [
        f"preflight: {_counted(len(nodes), 'node')} answered, {len(missing) or 'none'} did not,"
        f" {_counted(len(found), 'difference')}"
    ]
    cells = [_cells(node) for node in nodes]
    rows: list[tuple[str, ...]] = [COLUMNS]
    for row in cells:
        marked = [
            text if _is_usual(text, [other[i] for other in cells]) else f"{text} {MARK}"
            for i, text in enumerate(row)
        ]
        rows.append((str(nodes[len(rows) - 1]["host"]), *marked))
    rows += [(name, "no answer", *[""] * (len(COLUMNS) - 2)) for name in missing]
    lines += page.table(rows)
    for name, by_value in found.items():
        text = "; ".join(
            f"{_value(name, value)} on {', '.join(hosts)}" for value, hosts in by_value.items()
        )
        lines += page.wrap(f"{MARK} {name}: {text}", "  ", "      ")
    what = "the nodes differ where marked" if found else "the nodes are alike"
    if missing:
        what = f"{', '.join(missing)} did not answer in time; {what}"
    return [*lines, *page.wrap(f"next: {what}")]


def _cells(node: Mapping[str, Any]) -> tuple[str, ...]:
    memory = node["host_memory"]
    names = [device["name"] for device in node["devices"]]
    kinds = [f"{names.count(name)} x {name}" for name in dict.fromkeys(names)]
    free = [d["free_bytes"] for d in node["devices"] if d["free_bytes"] is not None]
    limit = memory["cgroup_limit"] or memory["slurm_limit"]
    return (
        ", ".join(kinds) or "none",
        _gib(min(free)) if free else NOTHING,
        node["driver"]["version"] or NOTHING,
        node["packages"].get("torch", NOTHING),
        _gib(memory["available_bytes"]),
        _gib(limit["num_bytes"]) if limit else NOTHING,
        _gib(node["shared_memory"]["total_bytes"]) if node["shared_memory"] else NOTHING,
        str(node["num_cpus"]),
    )


def _is_usual(text: str, all_texts: Sequence[str]) -> bool:
    """Tell whether a value is the one that most nodes have; of two equally common ones the first is."""
    most = max(dict.fromkeys(all_texts), key=all_texts.count)
    return text == most


def _value(name: str, text: str) -> str:
    return _gib(int(text)) if name.endswith("_bytes") and text.isdecimal() else text


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _gib(num_bytes: int | None) -> str:
    return NOTHING if num_bytes is None else format_gib(num_bytes)


def _driver(driver: Mapping[str, Any]) -> str:
    if driver["version"] is None:
        return ""
    return f"{driver['version']}, CUDA up to {driver['cuda_version'] or 'not said'}"


def _packages(node: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in node["packages"].items())


def _limit(limit: Mapping[str, Any] | None) -> str:
    return f"{_gib(limit['num_bytes'])} ({limit['said_by']})" if limit else ""


def _space(space: Mapping[str, Any] | None) -> str:
    if space is None:
        return ""
    return f"{_gib(space['free_bytes'])} free of {_gib(space['total_bytes'])} at {space['path']}"


def _unlimited(limits: Mapping[str, Any], name: str, as_bytes: bool) -> str:
    if name not in limits:
        return "not said"
    value = limits[name]
    if value is None:
        return "unlimited"
    return _gib(value) if as_bytes else str(value)

"""Everything about this node as plain values, and what differs between nodes: what `preflight probe` prints."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from typing import Any

from preflight.devices.driver import Card, amd_cards, nvidia_cards, output_of
from preflight.files import find_program
from preflight.launch import plain
from preflight.node import limits as node
from preflight.node.network import addresses, host_name
from preflight.node.packages import PACKAGES, build_tools
from preflight.units import MIB

LARGE_DIFFERENCE_SHARE = 0.1
"""Free memory and the like differ a little between any two nodes; from this share of the largest on it is said."""

VARYING = ("free_bytes", "available_bytes")
OWN_TO_A_NODE = ("host", "addresses", "holders", "uuid", "path")


def describe_node(
    env: Mapping[str, str], cwd: str, checkpoints: str | None = None, root: str = "/"
) -> dict[str, Any]:
    """Return what this node has: devices, packages, memory, limits, disk and network."""
    memory = node.meminfo(root)
    slurm = {name: env[name] for name in sorted(env) if name.startswith("SLURM_MEM_PER_")}
    return {
        "host": host_name(dict(env)),
        "devices": _devices(),
        "visible_devices": env.get("CUDA_VISIBLE_DEVICES"),
        "driver": _driver(),
        "python": platform.python_version(),
        "packages": _packages(),
        "build": plain(build_tools(env, root)),
        "host_memory": {
            "total_bytes": memory.get("MemTotal"),
            "available_bytes": memory.get("MemAvailable"),
            "swap_bytes": memory.get("SwapTotal"),
            "cgroup_limit": plain(node.cgroup_memory(root)),
            "slurm_limit": plain(node.slurm_memory(env)),
            "slurm": slurm,
        },
        "num_cpus": node.num_cpus(root),
        "shared_memory": plain(node.shared_memory(root)),
        "limits": node.resource_limits(root),
        "disk": _disks(env, cwd, checkpoints),
        "network": {
            "addresses": addresses(root),
            "infiniband": list(node.infiniband_devices(root)),
        },
    }


def _devices() -> list[dict[str, Any]]:
    tool, cards = nvidia_cards(hidden_too=True)
    holders = _holders() if cards else {}
    if not cards:
        tool, cards = amd_cards()
    return [_device(card, tool, holders.get(card.uuid, [])) for card in cards]


def _device(card: Card, tool: str, holders: list[dict[str, Any]]) -> dict[str, Any]:
    capability = card.compute_capability
    return {
        "name": card.name,
        "total_bytes": card.total_bytes,
        "free_bytes": card.free_bytes,
        "compute_capability": None if capability is None else f"{capability[0]}.{capability[1]}",
        "is_mig": card.is_mig,
        "uuid": card.uuid,
        "holders": holders,
        "source": tool,
    }


def _holders() -> dict[str, list[dict[str, Any]]]:
    """Return uuid of a card -> the processes that hold memory on it, as its driver lists them."""
    tool = find_program("nvidia-smi", os.environ.get("PATH", ""))
    query = "--query-compute-apps=gpu_uuid,pid,process_name,used_memory"
    text = output_of([tool, query, "--format=csv,noheader,nounits"]) if tool else None
    found: dict[str, list[dict[str, Any]]] = {}
    for line in (text or "").splitlines():
        uuid, _, rest = line.partition(",")
        pid, _, rest = rest.partition(",")
        name, _, used = rest.rpartition(",")
        if not pid.strip().isdecimal():
            continue
        used_mib = used.strip()
        found.setdefault(uuid.strip(), []).append(
            {
                "pid": int(pid),
                "name": name.strip(),
                "used_bytes": int(used_mib) * MIB if used_mib.isdecimal() else None,
            }
        )
    return found


def _driver() -> dict[str, str | None]:
    """Return the versions of the driver and of the newest CUDA that it runs."""
    import re

    tool = find_program("nvidia-smi", os.environ.get("PATH", ""))
    text = (output_of([tool]) if tool else None) or ""
    driver = re.search(r"Driver Version:\s*([\d.]+)", text)
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", text)
    return {"version": driver[1] if driver else None, "cuda_version": cuda[1] if cuda else None}


def _packages() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name.replace("_", "-"))
        except PackageNotFoundError:
            continue
    return found


def _disks(env: Mapping[str, str], cwd: str, checkpoints: str | None) -> dict[str, Any]:
    home = env.get("HF_HOME") or os.path.join(
        env.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    wanted = {"cwd": cwd, "hf_home": home, "tmpdir": env.get("TMPDIR") or "/tmp"}
    if checkpoints is not None:
        wanted["checkpoints"] = os.path.join(cwd, os.path.expanduser(checkpoints))
    return {name: plain(node.space_at(path)) for name, path in wanted.items()}


def differences(nodes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[str]]]:
    """Return field -> value as text -> the nodes that have it, for every field that is not the same everywhere."""
    flat = {str(item["host"]): flattened(item) for item in nodes}
    found: dict[str, dict[str, list[str]]] = {}
    for name in dict.fromkeys(name for values in flat.values() for name in values):
        values = {host: fields.get(name) for host, fields in flat.items()}
        if any(part in OWN_TO_A_NODE for part in name.split(".")):
            continue
        if name.endswith(VARYING) and _is_near(list(values.values())):
            continue
        by_value: dict[str, list[str]] = {}
        for host, value in values.items():
            by_value.setdefault("none" if value is None else str(value), []).append(host)
        if len(by_value) > 1:
            found[name] = by_value
    return found


def _is_near(values: Sequence[Any]) -> bool:
    numbers = [value for value in values if isinstance(value, (int, float))]
    if len(numbers) != len(values) or not numbers:
        return False
    return max(numbers) - min(numbers) <= LARGE_DIFFERENCE_SHARE * max(numbers)


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested values under dotted names: `devices.0.name`."""
    items: list[tuple[str, Any]]
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        items = [(str(index), item) for index, item in enumerate(value)]
        items.append(("count", len(value)))
    else:
        return {name: value}
    flat: dict[str, Any] = {}
    for key, item in items:
        flat.update(flattened(item, f"{name}.{key}" if name else key))
    return flat

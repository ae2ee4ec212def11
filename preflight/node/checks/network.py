"""PF515, PF516: the interface that NCCL and gloo are told to use, and switches that slow NCCL down."""

from __future__ import annotations

import os
from collections.abc import Iterator

from preflight.files import entries_of
from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.node.this_node import environment

SLOW = {
    "NCCL_P2P_DISABLE": "GPUs of a node copy through host memory and not over NVLink or PCIe",
    "NCCL_IB_DISABLE": "nodes talk over TCP and not over InfiniBand or RoCE",
    "NCCL_SHM_DISABLE": "GPUs of a node that cannot reach each other talk over the network",
    "CUDA_LAUNCH_BLOCKING": "every kernel waits for the one before it, on the CPU too",
}
"""Variable -> what 1 does (NCCL user guide, environment variables, 2.27; CUDA C++ programming guide, 12.8)."""
ACROSS_NODES = ("NCCL_IB_DISABLE",)


def findings(plan: LaunchPlan, root: str = "/") -> Iterator[Finding]:
    """Look at the variables that reach the ranks."""
    env = environment(plan)
    present = interfaces(root)
    if plan.world_size > 1 and present:
        yield from _interfaces(
            env.get("NCCL_SOCKET_IFNAME"), env.get("GLOO_SOCKET_IFNAME"), present
        )
    for name, effect in SLOW.items():
        if env.get(name) != "1" or (name in ACROSS_NODES and plan.num_nodes == 1):
            continue
        if name.startswith("NCCL_") and plan.world_size == 1:
            continue
        yield found(
            "PF516", f"{name}=1: {effect}", f"${name}", f"unset {name} once it works without"
        )


def _interfaces(nccl: str | None, gloo: str | None, present: tuple[str, ...]) -> Iterator[Finding]:
    for name, text, missing in (
        ("NCCL_SOCKET_IFNAME", nccl, not_found_by_nccl(nccl or "", present)),
        ("GLOO_SOCKET_IFNAME", gloo, not_found_by_gloo(gloo or "", present)),
    ):
        if missing:
            yield found(
                "PF515",
                f"{name}={text}, and this node has no such interface (it has {', '.join(present)})",
                f"${name}",
                f"{name}={next((one for one in present if one != 'lo'), present[0])}, or unset it",
            )


def interfaces(root: str) -> tuple[str, ...]:
    """Return the network interfaces that the kernel lists."""
    return entries_of(os.path.join(root, "sys/class/net"))


def not_found_by_nccl(text: str, present: tuple[str, ...]) -> bool:
    """Tell whether NCCL_SOCKET_IFNAME picks no interface: prefixes, `=` for whole names, `^` for all but these."""
    if not text or text.startswith("^"):
        return False
    whole = text.startswith("=")
    wanted = [word.partition(":")[0] for word in text.lstrip("=").split(",") if word]
    picked = [
        name
        for name in present
        if any(name == word if whole else name.startswith(word) for word in wanted)
    ]
    return bool(wanted) and not picked


def not_found_by_gloo(text: str, present: tuple[str, ...]) -> bool:
    """Tell whether GLOO_SOCKET_IFNAME names an interface that is not here: whole names, all of them are used."""
    return any(word not in present for word in text.split(",") if word)

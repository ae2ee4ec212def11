"""PF506, PF507: the port that the first node listens on, and how this node finds it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.node.limits import lines_of
from preflight.node.this_node import node_rank


def findings(plan: LaunchPlan, root: str = "/") -> Iterator[Finding]:
    """Look for somebody who has the port already, and for a loopback address of the first node."""
    yield from _port(plan)
    yield from _address(plan, root)


def _port(plan: LaunchPlan) -> Iterator[Finding]:
    port, where = listening_port(plan)
    if port is None or not is_taken(port):
        return
    moves = plan.rank_facts.moves_port
    yield found(
        "PF506",
        f"port {port}, on which the ranks meet, is taken on this node"
        + (": accelerate takes another one" if moves else ""),
        where,
        plan.rank_facts.other_port,
        severity="info" if moves else None,
    )


def listening_port(plan: LaunchPlan) -> tuple[int | None, str]:
    """Return the port that this node will listen on, and where it is said; None where it listens on none."""
    setting = plan.rank_facts.meeting_port
    if setting is None or node_rank(plan) != 0:
        return None, ""
    text = str(setting.value)
    where = "" if setting.place.kind == "default" else setting.place.where
    return (int(text) if text.isdecimal() and int(text) else None), where


def is_taken(port: int) -> bool:
    """Tell whether this node has no room for a listener on a port: by binding it for a moment, as torch will.

    /proc/net/tcp would say who listens, but the kernel walks its whole table for it: 9 ms on two cores.
    """
    import _socket  # `socket` without its classes, which cost more to import than the question

    for family, address in ((_socket.AF_INET6, "::"), (_socket.AF_INET, "0.0.0.0")):
        try:
            probe = _socket.socket(family, _socket.SOCK_STREAM)
        except OSError:
            continue  # no IPv6 here
        try:
            probe.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
        finally:
            probe.close()
    return False


def _address(plan: LaunchPlan, root: str) -> Iterator[Finding]:
    setting = plan.rank_facts.main_address
    if plan.num_nodes == 1 or setting is None or not isinstance(setting.value, str):
        return
    if node_rank(plan) == 0:
        return  # here it is this node, whatever it resolves to
    address = address_in_hosts(setting.value, root) or setting.value
    if not is_loopback(address):
        return
    yield found(
        "PF507",
        f"this node, rank {node_rank(plan)} of the nodes, looks for the first one at {setting.value},"
        f" and that is itself ({address})",
        setting.place.where,
        "the first node's address in the network of the nodes",
    )


def is_loopback(address: str) -> bool:
    """Tell whether an address is the node's own, whichever node asks."""
    return address.startswith("127.") or address in ("::1", "localhost", "0.0.0.0")


def address_in_hosts(name: str, root: str = "/") -> str | None:
    """Return the first address that /etc/hosts has for a name."""
    for line in lines_of(os.path.join(root, "etc/hosts")):
        words = line.partition("#")[0].split()
        if name.lower() in (word.lower() for word in words[1:]):
            return words[0]
    return None

"""Names and addresses of this node, read from the kernel."""

from __future__ import annotations

import os

from preflight.files import entries_of


def host_name(env: dict[str, str] | None = None) -> str:
    """Return this node's name: Slurm's where a job runs, else the kernel's."""
    variables = os.environ if env is None else env
    return variables.get("SLURMD_NODENAME") or os.uname().nodename


def addresses(root: str) -> dict[str, list[str]]:
    """Return interface -> its IPv4 and IPv6 addresses, interfaces without one left out."""
    found: dict[str, list[str]] = {}
    for name in entries_of(os.path.join(root, "sys/class/net")):
        text = _ipv4(name)
        if text is not None:
            found.setdefault(name, []).append(text)
    try:
        with open(os.path.join(root, "proc/net/if_inet6"), encoding="ascii") as file:
            lines = file.read().splitlines()
    except OSError:
        lines = []
    import socket

    for line in lines:
        words = line.split()
        if len(words) == 6:
            packed = bytes.fromhex(words[0])
            found.setdefault(words[5], []).append(socket.inet_ntop(socket.AF_INET6, packed))
    return {name: found[name] for name in sorted(found)}


def _ipv4(interface: str) -> str | None:
    import fcntl
    import socket
    import struct

    get_address = 0x8915  # SIOCGIFADDR (linux/sockios.h)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            answer = fcntl.ioctl(probe.fileno(), get_address, request)
        except OSError:
            return None  # no IPv4 address
    return socket.inet_ntoa(answer[20:24])

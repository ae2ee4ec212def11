"""How fast a device computes, reads its memory and talks to others: what step times are reckoned from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from preflight.device import DeviceSpec
from preflight.own_tables import table_beside
from preflight.values import dataclass

PCIE_GB_PER_SECOND = {3: 15.75, 4: 31.5, 5: 63.0}
"""One direction of 16 lanes by generation (PCI-SIG: 8, 16, 32 GT/s, 128b/130b)."""
PCIE_SHARE = 0.8
"""Of a link that a large copy reaches: 25 of 31.5 GB/s in bandwidthTest on PCIe 4 hosts; assumed for the others."""
NODE_LINK_GB_PER_SECOND: Mapping[str, float] = {"Hopper": 50.0, "Blackwell": 50.0, "Ampere": 25.0}
"""Network of one GPU of an NVLink node, by generation: one 400 Gb/s port each in DGX H100, 200 Gb/s in
DGX A100 (NVIDIA's data sheets, 2020 to 2024). Nobody said what this cluster has, so it is assumed."""
OTHER_NODE_LINK_GB_PER_SECOND = 3.125
"""Anywhere else: a 25 Gb/s share of a node's 100 to 200 Gb/s Ethernet, as cloud nodes with 4 to 8 cards have."""
REFERENCE_KEY = "a100-sxm-80"
"""Whose ratios hold for a device without figures: plans are only compared with each other."""


@dataclass(frozen=True)
class DeviceSpeed:
    """Rates of one device, in units per second."""

    flops: float
    """Peak of dense 16-bit matrix products."""
    memory_bytes: float
    node_bytes: float
    """To another device of the node, one direction: NVLink, else PCIe."""
    network_bytes: float
    """To a device of another node."""
    host_bytes: float
    """To the host's memory, one direction."""
    is_assumed: bool = False
    """True where the figures are another card's."""


def speed_of(device: DeviceSpec | None) -> DeviceSpeed:
    """Return the speeds of a device, or those of the reference card where nobody published any."""
    key = "" if device is None or device.key is None else device.key
    table = _table()
    row = table.get(key)
    is_assumed = row is None
    if row is None:
        row = table[REFERENCE_KEY]
    arch = "Ampere" if is_assumed or device is None else device.arch or ""
    host = PCIE_GB_PER_SECOND[row["pcie"]] * PCIE_SHARE * 1e9
    nvlink = row["nvlink_gb_per_s"]
    network = OTHER_NODE_LINK_GB_PER_SECOND
    if nvlink is not None:
        network = next((v for k, v in NODE_LINK_GB_PER_SECOND.items() if arch.startswith(k)), 12.5)
    return DeviceSpeed(
        flops=row["tflops"] * 1e12,
        memory_bytes=row["gb_per_s"] * 1e9,
        node_bytes=host if nvlink is None else nvlink * 1e9,
        network_bytes=network * 1e9,
        host_bytes=host,
        is_assumed=is_assumed,
    )


_table = partial(table_beside, __file__, "gpu_speeds.json")

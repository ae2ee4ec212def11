"""The device one rank runs on, and what of it torch can never have."""

from __future__ import annotations

from preflight.units import GIB
from preflight.values import dataclass

SMALLEST_CUDA_DEVICE_BYTES = 2 * GIB
"""No GPU that torch 2.9 supports has less: below it a device is a budget for a CPU test, and has no CUDA context."""


@dataclass(frozen=True)
class DeviceSpec:
    """One device, and how many of it the checking machine or the user named."""

    name: str
    capacity_bytes: int
    """What `torch.cuda.mem_get_info()[1]` reports: the driver's total less its own reserve."""
    key: str | None = None
    """Its key in the GPU table."""
    count: int | None = None
    """Devices seen or named; None where nobody said."""
    compute_capability: tuple[int, int] | None = None
    supports_bf16: bool | None = None
    supports_fp8: bool | None = None
    arch: str | None = None
    """Hopper, Ada, CDNA3, ..."""
    vendor: str | None = None
    free_bytes: int | None = None
    """Free now, where a driver was asked."""
    source: str = ""
    is_assumed: bool = False

    @property
    def has_runtime(self) -> bool:
        """True where a driver context takes memory that torch does not count."""
        return self.capacity_bytes >= SMALLEST_CUDA_DEVICE_BYTES

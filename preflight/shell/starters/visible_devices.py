"""How many GPUs a launcher on this machine would count, without a driver library."""

from __future__ import annotations

from collections.abc import Mapping


def numbered(count: int) -> str:
    """Return so many devices as CUDA_VISIBLE_DEVICES lists them: `0,1,2`."""
    return ",".join(map(str, range(count)))


def num_visible_devices(env: Mapping[str, str]) -> int:
    """Return how many NVIDIA GPUs a launcher here would count: CUDA_VISIBLE_DEVICES, else the driver's device files."""
    import os

    listed = env.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        ids = [word.strip() for word in listed.split(",")]
        # CUDA stops at the first id that it does not know.
        return next((index for index, word in enumerate(ids) if word in ("", "-1")), len(ids))
    try:
        return sum(
            name.startswith("nvidia") and name[6:].isdecimal() for name in os.listdir("/dev")
        )
    except OSError:
        return 0

"""Who counts the memory of a rank: torch's caching allocator on CUDA, and on a CPU a count of our own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from preflight.values import NamedTuple


class Block(NamedTuple):
    """A piece of memory that is in use."""

    num_bytes: int
    what: str


class CudaCounters:
    """The peaks that torch keeps itself: reading and resetting them asks no kernel and waits for none."""

    kind = "cuda"
    counted_by = "torch.cuda caching allocator"

    def __init__(self) -> None:
        import torch

        self._cuda: Any = torch.cuda

    def start(self, models: Iterable[Any]) -> None:
        """Begin with the first phase."""
        self._cuda.reset_peak_memory_stats()

    def stop(self) -> None:
        """Leave everything as it was."""

    def take(self) -> dict[str, int]:
        """Return the peaks since the last call, and begin again."""
        peaks = {
            "allocated": int(self._cuda.max_memory_allocated()),
            "reserved": int(self._cuda.max_memory_reserved()),
        }
        self._cuda.reset_peak_memory_stats()
        return peaks

    def outside(self) -> int | None:
        """Return what the driver shows in use beyond what torch reserved; asked between steps only."""
        free, total = self._cuda.mem_get_info()
        return max(0, int(total) - int(free) - int(self._cuda.memory_reserved()))

    def device(self) -> dict[str, Any]:
        """Return the device as a record has it."""
        properties = self._cuda.get_device_properties(self._cuda.current_device())
        return {
            "name": str(properties.name),
            "kind": self.kind,
            "capacity_bytes": int(properties.total_memory),
            "counted_by": self.counted_by,
        }

    def largest_blocks(self, count: int, names: dict[int, str]) -> list[Block]:
        """Return the largest blocks in use, from the allocator's snapshot."""
        blocks = []
        for segment in self._cuda.memory_snapshot():
            at = int(segment["address"])
            for block in segment["blocks"]:
                if block["state"] == "active_allocated":
                    what = names.get(at) or _made_by(block) or "no parameter, gradient or state"
                    blocks.append(Block(int(block["size"]), what))
                at += int(block["size"])
        return sorted(blocks, reverse=True)[:count]


def _made_by(block: dict[str, Any]) -> str:
    """Return the Python line that asked for a block, where torch was told to record it."""
    for frame in block.get("frames") or ():
        if str(frame.get("filename", "")).endswith(".py"):
            return f"made at {frame['filename']}:{frame['line']} in {frame['name']}"
    return ""


class CpuCounters:
    """Every storage that torch makes in this thread, followed until it dies; stands for a device on a machine without.

    `limit_bytes` is the size of that device: beyond it the operation fails as one does on a GPU.
    """

    kind = "cpu"
    counted_by = "storages of this process, counted by preflight"

    def __init__(self, limit_bytes: int | None = None) -> None:
        self.limit_bytes = limit_bytes
        self._mode: Any = None

    def start(self, models: Iterable[Any]) -> None:
        """Begin with the first phase, and with the tensors of models that are there already."""
        from preflight.embedded.storage_mode import storage_mode

        self._mode = storage_mode(self.limit_bytes)
        for model in models:
            for tensor in (*model.parameters(), *model.buffers()):
                self._mode.hold(tensor)
        self._mode.take()
        self._mode.__enter__()

    def stop(self) -> None:
        """Leave everything as it was."""
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None

    def take(self) -> dict[str, int]:
        """Return the peak since the last call, and begin again."""
        return {"allocated": 0 if self._mode is None else self._mode.take()}

    def outside(self) -> int | None:
        """Return None: there is no driver."""
        return None

    def device(self) -> dict[str, Any]:
        """Return the device as a record has it."""
        capacity = self.limit_bytes or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return {
            "name": "cpu",
            "kind": self.kind,
            "capacity_bytes": capacity,
            "counted_by": self.counted_by,
        }

    def largest_blocks(self, count: int, names: dict[int, str]) -> list[Block]:
        """Return the largest storages that are alive."""
        alive = [] if self._mode is None else self._mode.alive(names)
        return sorted((Block(size, what) for size, what in alive), reverse=True)[:count]


def counters_for(model: Any, cpu_limit_bytes: int | None) -> CudaCounters | CpuCounters:
    """Return the counters of the device that a model is on, or is about to be on."""
    import torch

    first = next(iter(model.parameters()), None)
    on_cuda = first is not None and first.device.type == "cuda"
    if on_cuda or (cpu_limit_bytes is None and first is None and torch.cuda.is_available()):
        return CudaCounters()
    return CpuCounters(cpu_limit_bytes)

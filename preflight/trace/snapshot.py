"""A trace as a memory snapshot of PyTorch's, for https://docs.pytorch.org/memory_viz and torch.cuda._memory_viz.

What a trace keeps is each category's bytes at the peak and at the end of every part of a step. A block stands for
what a category grows by, named by its part; what it shrinks by is taken off the newest blocks. Addresses are counted
on and never used twice: segments, and what fragments them, are the allocator's and not in a trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from preflight.trace.timeline import TracedPart

FIRST_ADDRESS = 0x7F00_0000_0000
ALIGNMENT = 512
"""Bytes: c10/cuda/CUDACachingAllocator.h, kMinBlockSize (torch 2.13)."""


def snapshot_of(timeline: Iterable[TracedPart]) -> dict[str, Any]:
    """Return what `torch.cuda.memory._snapshot()` would, of the parts of a trace in their order."""
    blocks = _Blocks()
    for part in timeline:
        where = part.part
        layer = "" if where.layer < 0 else f" {where.layer}"
        name = f"step {where.step + 1}, micro step {where.micro + 1}: {where.name}{layer}"
        blocks.come_to(part.at_peak, name)
        blocks.come_to(part.at_end, name)
    return {"segments": [], "device_traces": [blocks.events]}


class _Blocks:
    """The blocks that are alive by category, and every event so far."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self._alive: dict[str, list[tuple[int, int, str]]] = {}
        self._address = FIRST_ADDRESS

    def come_to(self, level: Mapping[str, int], name: str) -> None:
        """Allocate and free until each category has the bytes of a level: first what goes, then what comes."""
        changes = {
            category: level.get(category, 0) - sum(size for _, size, _ in self._of(category))
            for category in (*level, *(one for one in self._alive if one not in level))
        }
        for category, change in sorted(changes.items(), key=lambda item: item[1]):
            if change < 0:
                self._shrink(category, -change)
            elif change > 0:
                self._allocate(category, change, name)

    def _of(self, category: str) -> list[tuple[int, int, str]]:
        return self._alive.setdefault(category, [])

    def _allocate(self, category: str, num_bytes: int, name: str) -> None:
        self._of(category).append((self._address, num_bytes, name))
        self._tell("alloc", self._address, num_bytes, category, name)
        self._address += -(-num_bytes // ALIGNMENT) * ALIGNMENT

    def _shrink(self, category: str, num_bytes: int) -> None:
        while num_bytes > 0:
            address, size, name = self._of(category).pop()
            self._tell("free_requested", address, size, category, name)
            self._tell("free_completed", address, size, category, name)
            if size > num_bytes:
                self._allocate(category, size - num_bytes, name)
            num_bytes -= size

    def _tell(self, action: str, address: int, size: int, category: str, name: str) -> None:
        frame = {"name": category, "filename": name, "line": 0}
        event = {"action": action, "addr": address, "size": size, "stream": 0, "frames": [frame]}
        self.events.append({**event, "time_us": len(self.events)})

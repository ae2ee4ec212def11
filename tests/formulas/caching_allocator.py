"""The CUDA caching allocator, replayed on a list of allocations and frees, without a GPU.

Rules and constants of torch 2.13: c10/core/AllocatorConfig.h and c10/cuda/CUDACachingAllocator.cpp.

- A request is rounded up to 512 B. Up to 1 MiB it comes from segments of 2 MiB (small pool), up to
  10 MiB from segments of 20 MiB, and a larger one gets a segment of its own, rounded up to 2 MiB.
- The smallest free block that is large enough is taken, at the lower address among equals.
- What is left over is split off from 512 B on in the small pool, above 1 MiB in the large one. What is
  not split off counts as allocated.
- Freed neighbours in a segment become one block. Pools are per stream and never lend to each other.
- With expandable segments each pool is one segment that grows by pages of 2 or 20 MiB.
- When the capacity is reached, the segments (or pages) that are wholly free are given back first.

Not modelled: max_split_size, garbage_collection_threshold, private pools of CUDA graphs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from allocator_pool import MIN_BLOCK_BYTES, SMALL_REQUEST_BYTES, Block, Pool

from preflight.units import round_up
from preflight.values import dataclass

SYNC = -1
"""The allocation id of an event that waits for the device: frees that other streams hold up are done."""

Event = tuple[int, int, str]
"""(allocation id, bytes, stream). Zero bytes free the allocation; a free on another stream than the
allocation's is `record_stream`: the block is lent again only after the next SYNC."""


@dataclass(frozen=True)
class OutOfMemory:
    """The allocation that failed, after every free segment was given back."""

    event_number: int
    """Its place in the list of events, from 0."""
    requested_bytes: int
    segment_bytes: int
    """What the driver was asked for."""
    allocated_bytes: int
    reserved_bytes: int


@dataclass(frozen=True)
class AllocatorPeaks:
    """The counters of torch.cuda after a replay."""

    allocated_bytes: int
    """`max_memory_allocated`: rounded blocks."""
    reserved_bytes: int
    """`max_memory_reserved`: segments."""
    num_segments: int
    """Segments (with expandable ones: growths) asked of the driver."""
    num_retries: int
    """Times the capacity was reached and free segments were given back."""
    out_of_memory: OutOfMemory | None = None


class CachingAllocator:
    """The allocator of one device. A capacity of None is endless."""

    def __init__(self, expandable: bool = False, capacity_bytes: int | None = None) -> None:
        self.expandable = expandable
        self.capacity_bytes = capacity_bytes
        self.pools: dict[tuple[str, bool], Pool] = {}
        self.in_use: dict[int, tuple[Pool, Block, str]] = {}
        self.deferred: list[tuple[Pool, Block]] = []
        self.allocated_bytes = self.reserved_bytes = 0
        self.allocated_peak_bytes = self.reserved_peak_bytes = 0
        self.num_segments = self.num_retries = 0

    def allocate(self, number: int, num_bytes: int, stream: str) -> OutOfMemory | None:
        """Allocate under a number that is not in use; return what failed, or None."""
        rounded = round_up(num_bytes, MIN_BLOCK_BYTES)
        is_small = rounded <= SMALL_REQUEST_BYTES
        pool = self.pools.get((stream, is_small))
        if pool is None:
            pool = self.pools[stream, is_small] = Pool(is_small, self.expandable)
        block = pool.take_free(rounded)
        if block is None:
            if self._is_full(pool.missing_bytes(rounded)):
                self.num_retries += 1
                self.release()
                missing = pool.missing_bytes(rounded)
                block = pool.take_free(rounded)
                if block is None and self._is_full(missing):
                    return OutOfMemory(
                        -1, num_bytes, missing, self.allocated_bytes, self.reserved_bytes
                    )
            if block is None:
                before = pool.reserved_bytes
                block = pool.take_new(rounded)
                self.num_segments += 1
                self.reserved_bytes += pool.reserved_bytes - before
                self.reserved_peak_bytes = max(self.reserved_peak_bytes, self.reserved_bytes)
        self.in_use[number] = (pool, block, stream)
        self.allocated_bytes += block.num_bytes
        self.allocated_peak_bytes = max(self.allocated_peak_bytes, self.allocated_bytes)
        return None

    def free(self, number: int, stream: str) -> None:
        """Free an allocation; used on another stream last, it is lent again after the next `sync`."""
        pool, block, owner = self.in_use.pop(number)
        self.allocated_bytes -= block.num_bytes
        if stream == owner:
            pool.give(block)
        else:
            self.deferred.append((pool, block))

    def sync(self) -> None:
        """Wait for the device: frees that other streams held up are done."""
        for pool, block in self.deferred:
            pool.give(block)
        self.deferred.clear()

    def release(self) -> None:
        """Give back every segment that is wholly free (`torch.cuda.empty_cache`)."""
        self.sync()
        self.reserved_bytes -= sum(pool.release() for pool in self.pools.values())

    def _is_full(self, missing_bytes: int) -> bool:
        return (
            self.capacity_bytes is not None
            and self.reserved_bytes + missing_bytes > self.capacity_bytes
        )


def replay(
    events: Iterable[Event],
    expandable: bool = False,
    capacity_bytes: int | None = None,
    deferred_frees: bool = True,
) -> AllocatorPeaks:
    """Return the peaks that a list of events leads to, up to the first that fails.

    `deferred_frees` False frees at once whatever another stream used: the device never lags behind.
    """
    allocator = CachingAllocator(expandable, capacity_bytes)
    failed = None
    for event_number, (number, num_bytes, stream) in enumerate(events):
        if number == SYNC:
            allocator.sync()
        elif num_bytes:
            failed = allocator.allocate(number, num_bytes, stream)
            if failed is not None:
                failed = replace(failed, event_number=event_number)
                break
        else:
            owner = allocator.in_use[number][2]
            allocator.free(number, stream if deferred_frees else owner)
    return AllocatorPeaks(
        allocator.allocated_peak_bytes,
        allocator.reserved_peak_bytes,
        allocator.num_segments,
        allocator.num_retries,
        failed,
    )

"""One pool of the CUDA caching allocator: how blocks are found, split, merged and given back.

Rules and constants of torch 2.13, from c10/core/AllocatorConfig.h and c10/cuda/CUDACachingAllocator.cpp.
"""

from __future__ import annotations

from bisect import bisect_left, insort

from preflight.units import MIB, round_up

MIN_BLOCK_BYTES = 512
SMALL_REQUEST_BYTES = 1 * MIB
SMALL_SEGMENT_BYTES = 2 * MIB
MIN_OWN_SEGMENT_BYTES = 10 * MIB
LARGE_SEGMENT_BYTES = 20 * MIB
SEGMENT_STEP_BYTES = 2 * MIB
"""kMinBlockSize, kSmallSize, kSmallBuffer, kMinLargeAlloc, kLargeBuffer and kRoundLarge of AllocatorConfig.h."""
ADDRESS_SPACE_BYTES = 1 << 60


class Block:
    """A range of a segment: in use, free, or (expandable only) address space without memory."""

    __slots__ = ("address", "is_free", "is_mapped", "next", "num_bytes", "previous")

    def __init__(self, address: int, num_bytes: int) -> None:
        self.address = address
        self.num_bytes = num_bytes
        self.is_free = False
        self.is_mapped = True
        self.previous: Block | None = None
        self.next: Block | None = None


class Pool:
    """The small or the large pool of one stream."""

    def __init__(self, is_small: bool, expandable: bool) -> None:
        self.is_small = is_small
        self.expandable = expandable
        self.min_rest_bytes = MIN_BLOCK_BYTES if is_small or expandable else SMALL_REQUEST_BYTES + 1
        self.page_bytes = SMALL_SEGMENT_BYTES if is_small else LARGE_SEGMENT_BYTES
        self.free: list[tuple[int, int]] = []
        """Bytes and address of every free block, sorted."""
        self.free_at: dict[int, Block] = {}
        self.unmapped: list[Block] = []
        """Address space without memory, by address; the last is as good as endless."""
        self.next_address = 0
        self.reserved_bytes = 0
        if expandable:
            space = Block(0, ADDRESS_SPACE_BYTES)
            space.is_mapped = False
            self._keep(space)

    def take_free(self, num_bytes: int) -> Block | None:
        """Return the best free block, cut to size, or None."""
        place = bisect_left(self.free, (num_bytes, -1))
        if place == len(self.free):
            return None
        if self.expandable:
            place = self._least_expandable(place)
        block = self.free_at.pop(self.free.pop(place)[1])
        return self._cut(block, num_bytes)

    def missing_bytes(self, num_bytes: int) -> int:
        """Return what the driver is asked for when no free block serves."""
        if not self.expandable:
            if self.is_small:
                return SMALL_SEGMENT_BYTES
            if num_bytes < MIN_OWN_SEGMENT_BYTES:
                return LARGE_SEGMENT_BYTES
            return round_up(num_bytes, SEGMENT_STEP_BYTES)
        block: Block | None = self._growing_block(num_bytes)
        missing, found = 0, 0
        while block is not None and found < num_bytes:
            part = block.num_bytes
            if not block.is_mapped:
                part = min(part, self._whole_pages(num_bytes - found))
                missing += part
            found += part
            block = block.next
        return missing

    def take_new(self, num_bytes: int) -> Block:
        """Return a block in new memory of `missing_bytes`."""
        if not self.expandable:
            block = Block(self.next_address, self.missing_bytes(num_bytes))
            self.next_address += block.num_bytes + SEGMENT_STEP_BYTES
            self.reserved_bytes += block.num_bytes
            return self._cut(block, num_bytes)
        block = self._growing_block(num_bytes)
        if not block.is_mapped:
            block = self._map(block, num_bytes)
        while block.num_bytes < num_bytes:
            assert block.next is not None
            block = self._map(block.next, num_bytes - block.num_bytes)
        return self._cut(self._forget(block), num_bytes)

    def give(self, block: Block) -> Block:
        """Take a block back, merge it with free neighbours, and return the whole."""
        before, after = block.previous, block.next
        if after is not None and after.is_free and after.is_mapped is block.is_mapped:
            self._swallow(block, self._forget(after))
        if before is not None and before.is_free and before.is_mapped is block.is_mapped:
            self._swallow(self._forget(before), block)
            block = before
        self._keep(block)
        return block

    def release(self) -> int:
        """Give wholly free segments or pages back to the driver, and return their bytes."""
        released = 0
        for block in list(self.free_at.values()):
            if self.expandable:
                released += self._unmap(block)
            elif block.previous is None and block.next is None:
                released += self._forget(block).num_bytes
        self.reserved_bytes -= released
        return released

    def _keep(self, block: Block) -> None:
        block.is_free = True
        if block.is_mapped:
            insort(self.free, (block.num_bytes, block.address))
            self.free_at[block.address] = block
        else:
            self.unmapped.append(block)
            self.unmapped.sort(key=lambda space: space.address)

    def _forget(self, block: Block) -> Block:
        block.is_free = False
        if block.is_mapped:
            del self.free[bisect_left(self.free, (block.num_bytes, block.address))]
            del self.free_at[block.address]
        else:
            self.unmapped.remove(block)
        return block

    def _cut(self, block: Block, num_bytes: int) -> Block:
        block.is_free = False
        if block.num_bytes - num_bytes >= self.min_rest_bytes:
            self._split_off(block, num_bytes)
        return block

    def _split_off(self, block: Block, num_bytes: int) -> None:
        """Cut a block that is in no list; keep the rest as a free block of its kind."""
        if block.num_bytes == num_bytes:
            return
        rest = Block(block.address + num_bytes, block.num_bytes - num_bytes)
        rest.is_mapped = block.is_mapped
        rest.previous, rest.next = block, block.next
        if rest.next is not None:
            rest.next.previous = rest
        block.next, block.num_bytes = rest, num_bytes
        self._keep(rest)

    def _swallow(self, block: Block, after: Block) -> None:
        block.num_bytes += after.num_bytes
        block.next = after.next
        if after.next is not None:
            after.next.previous = block

    def _least_expandable(self, place: int) -> int:
        """Spare the block before unmapped space, which can grow, while a slightly larger one serves."""
        while place + 1 < len(self.free):
            here, there = (self.free_at[self.free[p][1]] for p in (place, place + 1))
            if _expandable_bytes(there) >= _expandable_bytes(here):
                break
            place += 1
        return place

    def _growing_block(self, num_bytes: int) -> Block:
        """Return where the lowest stretch of free and unmapped space that is long enough begins."""
        for space in self.unmapped:
            start = space
            if space.previous is not None and space.previous.is_free:
                start = space.previous
            length, block = 0, start
            while length < num_bytes and block.is_free:
                length += block.num_bytes
                if block.next is None:
                    break
                block = block.next
            if length >= num_bytes:
                return start
        raise AssertionError("the last stretch is endless")

    def _map(self, space: Block, num_bytes: int) -> Block:
        """Back the start of unmapped space with memory, and merge it with its free neighbours."""
        self._forget(space)
        mapped = min(space.num_bytes, self._whole_pages(num_bytes))
        self.reserved_bytes += mapped
        self._split_off(space, mapped)
        space.is_mapped = True
        return self.give(space)

    def _unmap(self, block: Block) -> int:
        begin = self._whole_pages(block.address)
        end = (block.address + block.num_bytes) // self.page_bytes * self.page_bytes
        if begin >= end:
            return 0
        self._forget(block)
        if block.address < begin:
            self._split_off(block, begin - block.address)
            assert block.next is not None
            middle = self._forget(block.next)
            self._keep(block)
            block = middle
        self._split_off(block, end - begin)
        block.is_mapped = False
        self.give(block)
        return end - begin

    def _whole_pages(self, num_bytes: int) -> int:
        return round_up(num_bytes, self.page_bytes)


def _expandable_bytes(block: Block) -> int:
    after = block.next
    return block.num_bytes + (after.num_bytes if after is not None and not after.is_mapped else 0)

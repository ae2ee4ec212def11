"""How many units of FSDP1 are gathered or freed and still read, on a device that only works when it is waited for.

FSDP1's rate limiter waits for events of frees (torch/distributed/fsdp/_limiter_utils.py). A gathered unit
that the host freed stays a block of its own until the host has waited for an event recorded after that.
"""

from __future__ import annotations

from typing import Any

from torch.distributed.fsdp._flat_param import FlatParamHandle
from torch.distributed.fsdp._limiter_utils import _FreeEventQueue


class Gathers:
    """The most units of one size that take memory at once, by part of a step."""

    def __init__(self, unit_bytes: int) -> None:
        self.unit_bytes = unit_bytes
        self.alive: dict[int, int] = {}
        self.pending: list[int] = []
        self.waits: list[int] = []
        """For every event in the queue, how many frees it covers that no event before it does."""
        self.peaks: dict[str, int] = {}
        self.part = "forward"

    def __enter__(self) -> Gathers:
        outer = self
        self._stock: list[tuple[Any, str, Any]] = []

        def patch(owner: Any, name: str, wrapper: Any) -> None:
            stock = getattr(owner, name)
            self._stock.append((owner, name, stock))
            setattr(owner, name, lambda this, *args: wrapper(stock, this, *args))

        def gather(stock: Any, handle: Any) -> Any:
            tensor = stock(handle)
            outer.alive[id(handle)] = tensor.numel() * tensor.element_size()
            outer._count()
            return tensor

        def free(stock: Any, handle: Any) -> None:
            stock(handle)
            num_bytes = outer.alive.pop(id(handle), 0)
            if num_bytes:
                outer.pending.append(num_bytes)

        def record(stock: Any, queue: Any, event: Any) -> None:
            stock(queue, event)
            outer.waits.append(len(outer.pending) - sum(outer.waits))

        def wait(stock: Any, queue: Any) -> Any:
            event = stock(queue)
            if event is not None:
                del outer.pending[: outer.waits.pop(0)]
            return event

        patch(FlatParamHandle, "_alloc_padded_unsharded_flat_param", gather)
        patch(FlatParamHandle, "_free_unsharded_flat_param", free)
        patch(_FreeEventQueue, "enqueue", record)
        patch(_FreeEventQueue, "_dequeue", wait)
        return self

    def __exit__(self, *_: object) -> None:
        for owner, name, stock in self._stock:
            setattr(owner, name, stock)

    def synchronize(self) -> None:
        """The host waits for the device, as a copy of the next batch makes it do."""
        self.waits = [0 for _ in self.waits]
        self.pending.clear()

    def _count(self) -> None:
        sizes = [*self.alive.values(), *self.pending]
        num = sum(size == self.unit_bytes for size in sizes)
        self.peaks[self.part] = max(self.peaks.get(self.part, 0), num)

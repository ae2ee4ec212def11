"""Follow every storage that torch allocates and frees during a training step, on fake or real CPU tensors.

A dispatch mode sees each new storage; a weak reference sees it die; `resize_` is how FSDP2 frees and
refills gathered parameters. Bytes are counted per named part of the step.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Allocations(TorchDispatchMode):
    """Bytes alive now, and the most alive in each part since its mark."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[int, Any]] = {}
        self.now = 0
        self.part = "start"
        self.peaks: dict[str, int] = {}
        self.ignoring = 0
        self._fake: Any = None
        self._dtensor: Any = None

    def __enter__(self) -> Allocations:
        from torch._guards import active_fake_mode
        from torch.distributed.tensor import DTensor
        from torch.distributed.tensor._sharding_prop import ShardingPropagator

        self._active_fake_mode, self._fake, self._dtensor = (
            active_fake_mode,
            active_fake_mode(),
            DTensor,
        )
        # DTensor works out output shapes on meta twins of its own: no memory.
        self._propagate = ShardingPropagator._propagate_tensor_meta_non_cached
        outer = self

        def propagate(*args: Any, **kwargs: Any) -> Any:
            outer.ignoring += 1
            try:
                return outer._propagate(*args, **kwargs)
            finally:
                outer.ignoring -= 1

        ShardingPropagator._propagate_tensor_meta_non_cached = propagate
        self._resize = torch.UntypedStorage.resize_

        def resize(storage: Any, size: int) -> Any:
            result = outer._resize(storage, size)
            if storage._cdata in outer.live:
                outer._forget(storage._cdata)
                outer._add(storage)
            return result

        torch.UntypedStorage.resize_ = resize
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        from torch.distributed.tensor._sharding_prop import ShardingPropagator

        torch.UntypedStorage.resize_ = self._resize
        ShardingPropagator._propagate_tensor_meta_non_cached = self._propagate
        super().__exit__(*error)

    def mark(self, part: str) -> None:
        """Start a part of the step: its peak is the most alive from here to the next mark."""
        self.part = part
        self.peaks[part] = self.now

    def track(self, tensor: torch.Tensor) -> None:
        """Count a tensor made before tracking began."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.live:
            self._add(storage)

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.live[key] = (size, weakref.ref(storage, lambda _: self._forget(key)))
        self.now += size
        if self.now > self.peaks.get(self.part, 0):
            self.peaks[self.part] = self.now

    def _forget(self, key: int) -> None:
        size, _ = self.live.pop(key, (0, None))
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(kind is self._dtensor for kind in types):
            return NotImplemented
        result = func(*args, **(kwargs or {}))
        if not self.ignoring and self._active_fake_mode() is self._fake:
            for tensor in torch.utils._pytree.tree_leaves(result):
                if isinstance(tensor, torch.Tensor) and tensor.device.type != "meta":
                    self.track(tensor)
        return result

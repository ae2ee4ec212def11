"""A dispatch mode that sees every storage made, a weak reference that sees it die: the counters of a CPU."""

from __future__ import annotations

import weakref
from typing import Any


def storage_mode(limit_bytes: int | None) -> Any:
    """Return a mode that counts the storages of the thread that enters it; torch is imported here and not before."""
    import torch
    from torch.distributed.tensor import DTensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    storage_class: Any = torch.UntypedStorage

    mode_class: Any = TorchDispatchMode

    class StorageMode(mode_class):  # type: ignore[misc]
        """Bytes alive now, and the most alive since they were last taken."""

        def __init__(self) -> None:
            super().__init__()
            self._alive: dict[int, tuple[int, Any, str]] = {}
            self._now = 0
            self._most = 0
            self._resize: Any = None

        def hold(self, tensor: Any, what: str = "there before") -> None:
            """Count the storage of a tensor once."""
            if isinstance(tensor, DTensor):
                tensor = tensor.to_local()
            if tensor.device.type != "cpu":
                return
            if tensor.layout != torch.strided:
                return  # a sparse tensor is made of others, which were seen
            storage = tensor.untyped_storage()
            if storage._cdata not in self._alive:
                shape = "x".join(str(size) for size in tensor.shape)
                dtype = str(tensor.dtype).removeprefix("torch.")
                self._add(storage, f"{shape or 'one number'} {dtype}, {what}")

        def take(self) -> int:
            """Return the most since the last call, and begin again."""
            most, self._most = self._most, self._now
            return most

        def alive(self, names: dict[int, str]) -> list[tuple[int, str]]:
            """Return bytes and a name for every living storage."""
            found = []
            for size, reference, what in list(self._alive.values()):
                storage = reference()
                if storage is not None:
                    found.append((size, names.get(storage.data_ptr()) or what))
            return found

        def __enter__(self) -> Any:
            mode = self
            self._resize = storage_class.resize_

            def resize(storage: Any, size: int) -> Any:
                result = mode._resize(storage, size)
                known = mode._alive.get(storage._cdata)
                if known is not None:  # FSDP2 keeps gathered parameters that way
                    mode._forget(storage._cdata)
                    mode._add(storage, known[2])
                return result

            storage_class.resize_ = resize
            base: Any = super()
            return base.__enter__()

        def __exit__(self, *error: Any) -> None:
            storage_class.resize_ = self._resize
            base: Any = super()
            base.__exit__(*error)

        def _add(self, storage: Any, what: str) -> None:
            key, size = storage._cdata, storage.nbytes()
            if limit_bytes is not None and self._now + size > limit_bytes:
                raise torch.OutOfMemoryError(
                    f"tried to allocate {size:,} bytes: {self._now:,} of {limit_bytes:,} are in use"
                    f" ({what})"
                )
            self._alive[key] = (size, weakref.ref(storage, lambda _: self._forget(key)), what)
            self._now += size
            self._most = max(self._most, self._now)

        def _forget(self, key: int) -> None:
            size = self._alive.pop(key, (0, None, ""))[0]
            self._now -= size

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if any(issubclass(kind, DTensor) for kind in types):
                return NotImplemented
            result = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(result):
                # A subclass stands for others (fake, sharded, quantized), which come by themselves.
                if type(tensor) is torch.Tensor or isinstance(tensor, torch.nn.Parameter):
                    self.hold(tensor, f"made by {getattr(func, '__name__', func)}")
            return result

    return StorageMode()

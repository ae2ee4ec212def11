"""Following every storage that torch allocates and frees: a dispatch mode sees it made, a weak reference sees it die."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from preflight.trace.log import GATHERED, REDUCED, TEMPORARIES, AllocationLog

ALL_GATHER = frozenset({"_allgather_base_", "allgather_into_tensor_coalesced_"})
REDUCE_SCATTER = frozenset({"_reduce_scatter_base_", "reduce_scatter_tensor_coalesced_"})
READS_VALUE = "_local_scalar_dense"


class Recorder:
    """Writes the storages of one device to a log."""

    def __init__(self, log: AllocationLog, device: str) -> None:
        self.log = log
        self.device = device
        self.alive: dict[int, tuple[int, Any]] = {}
        """Storage -> its number in the log, and the reference that notices its end."""
        self.workspaces: dict[str, Callable[[Any, Any], list[int]]] = {}
        """Operation -> what its GPU kernel allocates in passing, from its arguments: no tensor shows that."""
        self.answers: dict[str, bool] = {}
        """Operation -> the truth of what it returned, where a model branches on it and there is no data to tell."""

    def hold(self, tensor: Any, category: str = "", operation: str = "") -> None:
        """Note a tensor's storage unless it is known, and its category where it is given."""
        tensor = local_of(tensor)
        if tensor.device.type != self.device:
            return
        if tensor.is_sparse:
            for part in (tensor._indices(), tensor._values()):
                self.hold(part, category, operation)
            return
        storage = tensor.untyped_storage()
        known = self.alive.get(storage._cdata)
        if known is None:
            self._add(storage, operation or category, category)
        elif category:
            self.log.categories[known[0]] = category
            if operation:
                self.log.operations[known[0]] = operation

    def hold_model(self, model: Any, parameters: str, buffers: str) -> None:
        """Note the tensors of a model, packed weights' scales among them."""
        for parameter in model.parameters():
            self.hold(parameter, parameters)
            for scale in quantization_tensors(parameter):
                self.hold(scale, parameters)
        for buffer in model.buffers():
            self.hold(buffer, buffers)

    def answer(self, tensor: Any) -> bool | None:
        """Return the truth of a tensor without data that a model branches on; None where nobody knows it."""
        known = self.alive.get(tensor.untyped_storage()._cdata)
        return None if known is None else self.answers.get(self.log.operations[known[0]])

    def resized(self, storage: Any) -> None:
        """Note that a storage was emptied or refilled: FSDP2 keeps gathered parameters that way."""
        known = self.alive.pop(storage._cdata, None)
        if known is not None:
            self.log.categories[known[0]] = GATHERED
            self.log.free(known[0])
            self._add(storage, "all_gather", GATHERED)

    def _add(self, storage: Any, operation: str, category: str) -> None:
        key = storage._cdata
        number = self.log.allocate(storage.nbytes(), operation, category)

        def gone(_: Any) -> None:
            known = self.alive.get(key)
            if known is not None and known[0] == number:
                del self.alive[key]
                self.log.free(number)

        self.alive[key] = (number, weakref.ref(storage, gone))


def local_of(tensor: Any) -> Any:
    """Return this rank's shard of a sharded tensor, past autograd, and any other tensor as it is."""
    return getattr(tensor, "_local_tensor", tensor)


def quantization_tensors(parameter: Any) -> Iterator[Any]:
    """Yield the tensors that a bitsandbytes weight keeps beside itself."""
    state = getattr(parameter, "quant_state", None)
    while state is not None:
        for name in ("absmax", "code", "offset"):
            tensor = getattr(state, name, None)
            if tensor is not None:
                yield tensor
        state = getattr(state, "state2", None)


@contextmanager
def recording(recorder: Recorder) -> Iterator[None]:
    """Record what the device allocates inside the block."""
    import torch
    from torch._guards import active_fake_mode
    from torch.distributed.tensor import DTensor
    from torch.distributed.tensor._sharding_prop import ShardingPropagator
    from torch.utils._python_dispatch import TorchDispatchMode

    outer_mode = active_fake_mode()
    is_sharded = outer_mode is not None
    working_out_shapes = 0
    propagate = ShardingPropagator._propagate_tensor_meta_non_cached
    resize = torch.UntypedStorage.resize_

    def propagate_unseen(*args: Any, **kwargs: Any) -> Any:
        # DTensor works out its results' shapes on twins of its arguments: no memory.
        nonlocal working_out_shapes
        working_out_shapes += 1
        try:
            return propagate(*args, **kwargs)
        finally:
            working_out_shapes -= 1

    def resize_seen(storage: Any, size: int) -> Any:
        before = storage.nbytes()
        result = resize(storage, size)
        if storage.nbytes() != before:
            recorder.resized(storage)
        return result

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if is_sharded and any(kind is DTensor for kind in types):
                return NotImplemented
            if recorder.answers and func._schema.name.endswith(READS_VALUE):
                truth = recorder.answer(args[0])
                if truth is not None:
                    return truth
            result = func(*args, **(kwargs or {}))
            if is_sharded:
                if working_out_shapes or active_fake_mode() is not outer_mode:
                    return result
                name = func._schema.name.rpartition("::")[2]
                if name in ALL_GATHER:
                    recorder.hold(args[0], GATHERED)
                elif name in REDUCE_SCATTER:
                    recorder.hold(args[1], REDUCED)
            workspace = recorder.workspaces.get(func._schema.name.rpartition("::")[2])
            passing = workspace(args, kwargs or {}) if workspace else []
            numbers = [recorder.log.allocate(size, "workspace", TEMPORARIES) for size in passing]
            note(result, func)
            for number in numbers:
                recorder.log.free(number)
            return result

    def note(result: Any, func: Any) -> None:
        if isinstance(result, torch.Tensor):
            recorder.hold(result, "", func._schema.name.rpartition("::")[2])
        elif isinstance(result, (tuple, list)):
            for item in result:
                note(item, func)

    ShardingPropagator._propagate_tensor_meta_non_cached = propagate_unseen  # type: ignore[method-assign]
    torch.UntypedStorage.resize_ = resize_seen  # type: ignore[assignment,method-assign]
    try:
        with Mode():  # type: ignore[no-untyped-call]
            yield
    finally:
        torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]
        ShardingPropagator._propagate_tensor_meta_non_cached = propagate  # type: ignore[method-assign]

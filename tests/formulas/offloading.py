"""TRL's offloading of activations on tensors without data: what is saved goes away, and comes back node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch

import preflight.trace.run
from preflight.formulas.offloaded_activations import NUM_WAITING
from preflight.trace.patches import replaced

SMALLEST_BYTES = 1024


class Host:
    """Keeps the shapes of tensors that a copy in host memory would have."""

    def __init__(self, parameters: set[int]) -> None:
        self.parameters = parameters
        self.waiting: dict[int, tuple[Any, Any]] = {}
        self.returned: dict[int, Any] = {}
        self.count = 0
        self.node: Any = None

    def pack(self, tensor: Any) -> tuple[Any, ...]:
        """Take a saved tensor away unless it is small, a parameter's, or waiting already."""
        self.count += 1
        storage = tensor.untyped_storage()._cdata
        key = (storage, tensor.dtype, tensor.storage_offset())
        is_known = any(key == other for _, other in self.waiting.values())
        is_small = tensor.numel() * tensor.element_size() < SMALLEST_BYTES
        if is_known or is_small or storage in self.parameters or tensor.device.type != "meta":
            return (tensor,)
        if not tensor.is_contiguous() or tensor.storage_offset():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        for number in [n for n in self.waiting if n <= self.count - NUM_WAITING]:
            del self.waiting[number]
        self.waiting[self.count] = (tensor, key)
        return (self.count, tensor.shape, tensor.dtype)

    def unpack(self, packed: tuple[Any, ...]) -> Any:
        """Bring a tensor back; those of the node before go when this one is done."""
        if len(packed) == 1:
            return packed[0]
        number, shape, dtype = packed
        node, before = torch._C._current_autograd_node(), []
        if node is not self.node:
            self.node, before = node, list(self.returned)
        if number in self.waiting:
            tensor = self.waiting[number][0]
        else:
            tensor = self.returned[number] = torch.empty(shape, dtype=dtype, device="meta")

        def done(outputs: Any, inputs: Any) -> Any:
            self.waiting.clear()
            for one in before:
                self.returned.pop(one, None)
            return outputs

        node.register_hook(done)
        return tensor


@contextmanager
def offloading() -> Iterator[None]:
    """Offload what traces save inside the block; the head is left out, as TRL leaves it."""
    steps = preflight.trace.run.run_steps

    def run_steps(
        job: Any,
        model: Any,
        layers: Any,
        recorder: Any,
        stepping: Any,
        region: Callable[[], Any] = nullcontext,
        *more: Any,
    ) -> None:
        host = Host({p.untyped_storage()._cdata for p in model.parameters()})
        hooks = torch.autograd.graph.saved_tensors_hooks
        as_it_is = hooks(lambda tensor: tensor, lambda tensor: tensor)
        head = model.get_output_embeddings()
        handles = (
            head.register_forward_pre_hook(lambda *_: as_it_is.__enter__()),
            head.register_forward_hook(lambda *_: as_it_is.__exit__()),
        )

        def both() -> Any:
            stack = ExitStack()
            stack.enter_context(region())
            stack.enter_context(hooks(host.pack, host.unpack))
            return stack

        steps(job, model, layers, recorder, stepping, both, *more)
        for handle in handles:
            handle.remove()

    with replaced(preflight.trace.run, "run_steps", run_steps):
        yield

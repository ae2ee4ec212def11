"""CUDA's autocast on tensors without data: which operations cast, and the cache of cast weights.

torch.autocast("cuda") switches itself off without a GPU and does not know meta tensors, so its lists
(aten/src/ATen/autocast_mode.h, torch 2.13) are applied here as far as transformers use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from preflight.trace.log import WEIGHT_COPIES
from preflight.trace.recorder import Recorder


class EmulatedAutocast:
    """Makes autocast regions, and knows whether one is open."""

    def __init__(self, dtype: Any, recorder: Recorder) -> None:
        self.dtype = dtype
        self.recorder = recorder
        self.depth = 0
        self.num_pauses = 0

    def current_dtype(self) -> Any:
        """Return the dtype of the open region; None outside of any."""
        return self.dtype if self.depth and not self.num_pauses else None

    def region(self) -> AbstractContextManager[Any]:
        """Return one autocast region with its own cache of cast weights."""
        return _region(self)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Cast nothing inside the block: `torch.autocast(..., enabled=False)`."""
        self.num_pauses += 1
        try:
            yield
        finally:
            self.num_pauses -= 1

    def for_recompute(self) -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        """Return checkpoint's contexts of forward and recomputation: the latter must cast again."""
        return nullcontext(), self.region()


def _region(autocast: EmulatedAutocast) -> AbstractContextManager[Any]:
    import torch
    from torch.overrides import TorchFunctionMode

    narrow, wide = _lists()
    dtype = autocast.dtype

    class Region(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.cast_weights: dict[int, tuple[Any, Any]] = {}

        def __enter__(self) -> Any:
            autocast.depth += 1
            return super().__enter__()  # type: ignore[no-untyped-call]

        def __exit__(self, *error: Any) -> None:
            autocast.depth -= 1
            self.cast_weights.clear()
            super().__exit__(*error)  # type: ignore[no-untyped-call]

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if autocast.num_pauses:
                return func(*args, **kwargs)
            if func in narrow:
                wanted = dtype
            elif func in wide:
                wanted = torch.float32
            else:
                return func(*args, **kwargs)
            args = tuple(self.cast_any(item, wanted) for item in args)
            kwargs = {name: self.cast_any(item, wanted) for name, item in kwargs.items()}
            return func(*args, **kwargs)

        def cast_any(self, value: Any, wanted: Any) -> Any:
            if isinstance(value, (list, tuple)) and value and isinstance(value[0], torch.Tensor):
                return type(value)(self.cast_any(item, wanted) for item in value)
            if (
                not isinstance(value, torch.Tensor)
                or value.dtype == wanted
                or value.dtype not in (torch.float32, torch.float16, torch.bfloat16)
            ):
                return value
            is_weight = value.is_leaf and value.requires_grad and value._base is None
            if wanted != dtype or value.dtype != torch.float32 or not is_weight:
                return value.to(wanted)
            if id(value) not in self.cast_weights:
                copy = value.to(wanted)
                autocast.recorder.hold(copy, WEIGHT_COPIES)
                self.cast_weights[id(value)] = (value, copy)
            return self.cast_weights[id(value)][1]

    return Region()


def _lists() -> tuple[frozenset[Callable[..., Any]], frozenset[Callable[..., Any]]]:
    import torch
    import torch.nn.functional as F

    narrow: list[Callable[..., Any]] = [
        F.linear, F.scaled_dot_product_attention, F.conv1d, F.conv2d, F.conv3d,
        torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum,
        torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__, torch.Tensor.mm,
        torch.Tensor.bmm, torch.Tensor.baddbmm, torch.Tensor.addmm,
    ]  # fmt: skip
    wide: list[Callable[..., Any]] = [
        F.softmax, F.log_softmax, F.layer_norm, F.group_norm, F.cross_entropy, F.nll_loss, F.mse_loss,
        torch.softmax, torch.log_softmax, torch.layer_norm, torch.rsqrt, torch.pow, torch.cumsum,
        torch.sum, torch.prod, torch.norm, torch.exp, torch.log,
        torch.Tensor.softmax, torch.Tensor.rsqrt, torch.Tensor.pow, torch.Tensor.__pow__,
        torch.Tensor.cumsum, torch.Tensor.sum, torch.Tensor.norm, torch.Tensor.exp,
    ]  # fmt: skip
    return frozenset(narrow), frozenset(wide)

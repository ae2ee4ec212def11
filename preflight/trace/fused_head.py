"""TRL's fused head on tensors without data: its own code, with the Triton kernels as the work in place that they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from preflight.trace.liger import Kernel, StandIn
from preflight.trace.patches import replaced

FIELDS = ("log_probs", "entropy", "is_top1")
"""What SFT asks of the head (trl/trainer/sft_trainer.py:1146, 1.16.0)."""


def add_fused_head(model: Any) -> None:
    """Give a model, or the base of an adapted one, the head that SFTTrainer gives it."""
    from trl.trainer.utils import add_fused_lm_head

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    add_fused_lm_head(base, outputs=FIELDS)


@contextmanager
def head_like_cuda(autocast_dtype: Callable[[], Any]) -> Iterator[None]:
    """Run the head as a GPU with Triton does inside the block.

    Its kernels fold a tile into statistics, or turn it into its gradient, where it lies; its products add to
    fp32 sums in place. Without Triton all of that is done by torch in tensors of its own.
    """
    import torch
    import trl.kernels.chunked_logprob as kernels
    import trl.trainer.utils as head

    asked = torch.get_autocast_dtype

    def get_autocast_dtype(device_type: str) -> Any:
        return autocast_dtype() or asked(device_type)

    def uses_triton(device: Any) -> bool:
        return True

    def adds_in_place(acc: Any, a: Any, b: Any) -> None:
        return None

    with ExitStack() as patches:
        for owner in (kernels, head):
            patches.enter_context(replaced(owner, "_use_triton", uses_triton))
        for name in ("_forward_kernel", "_backward_kernel"):
            patches.enter_context(replaced(kernels, name, Kernel()))
        patches.enter_context(replaced(kernels, "_addmm_fp32", adds_in_place))
        patches.enter_context(replaced(torch, "get_autocast_dtype", get_autocast_dtype))
        if not hasattr(kernels, "triton"):
            setattr(kernels, "triton", StandIn("triton"))  # noqa: B010 (not a name that the module exports)
            patches.callback(delattr, kernels, "triton")
        patches.enter_context(_every_position_counts())
        yield


def _every_position_counts() -> Any:
    """Index by a mask without data as by one that masks nothing out: labels of a whole sequence."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Indexing(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is torch.Tensor.__getitem__ and getattr(args[1], "dtype", None) == torch.bool:
                tensor, mask = args
                where = torch.empty(
                    (mask.numel(), mask.ndim), dtype=torch.int64, device=mask.device
                )
                return tensor[tuple(where.unbind(1))]
            return func(*args, **(kwargs or {}))

    return Indexing()

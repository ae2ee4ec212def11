"""Where tokens go in the mixtures of experts of transformers before 5.0, which loop over what their router chose."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from preflight.units import ceil_div


@contextmanager
def balanced_routing(num_experts: int | None) -> Iterator[None]:
    """Send every expert as many tokens as any other: a tensor without data cannot say how many it gets.

    `num_experts` is that of the model, where it is known: GPT-OSS has one class more, of tokens that are masked
    (models/gpt_oss/modeling_gpt_oss.py, 4.57.6). The modeling files of 4.48 to 4.57 ask `torch.where` of an expert's mask, and `nonzero` of all for those that got any.
    """
    import torch

    one_hot, where, nonzero = torch.nn.functional.one_hot, torch.where, torch.Tensor.nonzero
    experts = 1

    def counted_one_hot(tensor: Any, num_classes: int = -1) -> Any:
        nonlocal experts
        experts = max(1, min(num_classes, num_experts or num_classes))
        return one_hot(tensor, num_classes)

    def chosen(condition: Any, *values: Any, **named: Any) -> Any:
        if values or named or not condition.is_meta:
            return where(condition, *values, **named)
        rows = ceil_div(condition.numel(), experts)
        places = torch.empty((rows, condition.dim()), dtype=torch.int64, device="meta")
        return places.unbind(1)

    def all_of_them(tensor: Any, **named: Any) -> Any:
        if not tensor.is_meta or tensor.dim() != 1:
            return nonzero(tensor, **named)
        return torch.arange(tensor.shape[0]).unsqueeze(1)  # experts are chosen by its values

    torch.nn.functional.one_hot, torch.where = counted_one_hot, chosen
    torch.Tensor.nonzero = all_of_them  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.functional.one_hot, torch.where = one_hot, where
        torch.Tensor.nonzero = nonzero  # type: ignore[method-assign]

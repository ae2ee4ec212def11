"""bitsandbytes' optimizers on tensors without data: its own code, which decides which states are packed."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

ADAM = ("adamw_bnb_8bit", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "paged_adamw_32bit")
LION = ("lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit")
ADEMAMIX = ("ademamix", "ademamix_8bit", "paged_ademamix_8bit", "paged_ademamix_32bit")
RMSPROP = ("rmsprop_bnb", "rmsprop_bnb_8bit")
BITSANDBYTES = (*ADAM, *LION, *ADEMAMIX, *RMSPROP)
"""By Trainer's names (transformers/trainer_optimizer.py:246, 5.24.0)."""
SMALLEST_PAGED = 100_000
"""Elements; the states of smaller tensors are never paged (bitsandbytes/optim/optimizer.py:383, 0.50.2)."""


def bitsandbytes_optimizer(name: str, groups: Any, embeddings: Iterable[Any]) -> Any:
    """Return the optimizer that Trainer makes of a name; 8 bits leave `embeddings` in 32."""
    from importlib import import_module

    optim = import_module("bitsandbytes.optim")
    kind = {**dict.fromkeys(LION, "Lion"), **dict.fromkeys(ADEMAMIX, "AdEMAMix"),
            **dict.fromkeys(RMSPROP, "RMSprop")}.get(name, "AdamW")  # fmt: skip
    arguments: dict[str, Any] = {"optim_bits": 8 if "8bit" in name else 32, "lr": 1e-3}
    if kind != "RMSprop":
        arguments["is_paged"] = "paged" in name
    manager = optim.GlobalOptimManager.get_instance()
    manager.initialize()  # it is one of the process, and still knows the last optimizer's
    optimizer = getattr(optim, kind)(groups, **arguments)
    for parameter in embeddings:
        holder = SimpleNamespace(weight=parameter)
        manager.register_module_override(holder, "weight", {"optim_bits": 32})
    if optimizer.is_paged:
        _page_without_data(optimizer)
    return optimizer


def is_paged(value: Any) -> bool:
    """Tell whether a state is in memory that a GPU shares with its host, outside of torch's."""
    return bool(getattr(value, "is_paged", False))


def _page_without_data(optimizer: Any) -> None:
    """Make paged states of nothing, which need neither CUDA's managed memory nor fetching."""
    import torch

    def buffer(parameter: Any, dtype: Any = torch.float32) -> Any:
        state: Any = torch.empty_like(parameter, dtype=dtype)
        state.is_paged = parameter.numel() >= SMALLEST_PAGED
        return state

    def double_buffer(parameter: Any, dtype: Any = torch.float32) -> Any:
        state: Any = torch.empty((2, *parameter.shape), dtype=dtype, device=parameter.device)
        state.is_paged = parameter.numel() >= SMALLEST_PAGED
        return state

    optimizer.get_state_buffer = buffer
    optimizer._get_state_double_buffer = double_buffer
    optimizer.prefetch_state = lambda parameter: None

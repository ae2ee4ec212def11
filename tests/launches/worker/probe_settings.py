"""Tells what a rank did with settings that no wrapper shows, under the names of plan edits."""

from __future__ import annotations

import os
from typing import Any

from probe_wrappers import find_wrapper

DEEPSPEED = {
    "reduce_bucket_size": "zero_reduce_bucket_size",
    "allgather_bucket_size": "zero_allgather_bucket_size",
    "sub_group_size": "zero_sub_group_size",
    "stage3_max_live_parameters": "zero_max_live_parameters",
    "stage3_max_reuse_distance": "zero_max_reuse_distance",
}
"""Key of zero_optimization -> the engine's own method that every stage asks."""


class HostCopies:
    """Counts tensors that `save_on_cpu` kept."""

    num_tensors = 0


def patch_graph(module: Any) -> None:
    """Let `save_on_cpu` run where no memory can be pinned: a copy goes from host to host, and is counted."""
    stock = module.save_on_cpu.__init__

    def init(self: Any, pin_memory: bool = False, device_type: str = "cuda") -> None:
        import torch

        stock(self, False, device_type)

        def pack(tensor: Any) -> Any:
            HostCopies.num_tensors += 1
            return tensor.device, torch.empty_like(tensor).copy_(tensor)

        self.pack_hook = pack

    module.save_on_cpu.__init__ = init


def settings(model: Any, optimizers: list[Any], watched: Any) -> dict[str, Any]:
    """Return edits that were carried out: from the engine, the optimizer and what was counted."""
    found: dict[str, Any] = {
        "optimizer": _optimizer(optimizers),
        "offload_activations": "cpu" if HostCopies.num_tensors else "none",
        "sync_each_batch": watched.num_unsynced == 0,
        "expandable_segments": "expandable_segments:True"
        in os.environ.get("PYTORCH_ALLOC_CONF", ""),
    }
    if watched.eval_batch_sizes:
        found["eval_micro_batch_size"] = max(watched.eval_batch_sizes)
    engine = find_wrapper(model, "DeepSpeedEngine")
    for name, method in DEEPSPEED.items() if engine is not None else ():
        found[f"deepspeed.{name}"] = getattr(engine, method)()
    return found


def _optimizer(optimizers: list[Any]) -> str | None:
    """Return AdamW's kernel in the plan's words; None for any other optimizer."""
    inner = optimizers[-1]
    name = type(inner).__name__
    if name == "DeepSpeedCPUAdam":
        return "deepspeed_cpu_adam"
    if name != "AdamW":
        return None
    return "adamw_torch_fused" if inner.defaults.get("fused") else "adamw_torch"

"""Gathers the whole weights that a model trained, on every engine, and saves them in fp32."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from probe_wrappers import engine_of

WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "module.")


def save(model: Any, rank: int) -> None:
    """Write `weights.npz`: tensor by its plain name. Every rank takes part, the first writes."""
    import numpy

    weights = {}
    with _whole(model):
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            tensor = parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter
            # A clone: FSDP1 frees what it gathered, and cannot where numpy looks at it.
            weights[_plain(name)] = tensor.detach().float().clone().numpy()
    if rank == 0:
        path = os.path.join(os.environ["PREFLIGHT_TEST_PROBE"], "weights.npz")
        numpy.savez(path, **weights)


def _whole(model: Any) -> Any:
    """Return a context in which every parameter is whole, except FSDP2's, which are gathered one by one."""
    engine = engine_of(model)
    if engine == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel.summon_full_params(model, writeback=False)
    if engine == "zero3":
        import deepspeed

        return deepspeed.zero.GatheredParameters(list(model.parameters()))
    return contextlib.nullcontext()


def _plain(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name

"""How a torchtune recipe spreads over its ranks: FSDP2 over all, or over what tensor parallelism leaves.

Source: recipes/full_finetune_distributed.py of torchtune 0.6.1, and shard_model (torchtune/training/_distributed.py:519).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.setting import Place, Setting
from preflight.unpriced_names import DIVIDED, FLOAT8

LATER: Mapping[str, tuple[object, NotModelled]] = {
    "context_parallel_dim": (
        1,
        NotModelled(
            "no released torchtune divides a sequence over ranks: it is taken whole",
            DIVIDED,
            "less",
        ),
    ),
    "data_parallel_replicate_dim": (
        1,
        NotModelled(
            "no released torchtune has groups of ranks that shard: all of them are taken to",
            "ranks that hold what others do",
            "more",
        ),
    ),
    "data_parallel_shard_dim": (
        -1,
        NotModelled(
            "no released torchtune shards over a part of the ranks: all of them are taken to",
            "ranks that hold what others do",
            "more",
        ),
    ),
    "enable_fp8_training": (
        False,
        NotModelled("no released torchtune trains in float8: bf16 is taken", FLOAT8, "either"),
    ),
}
"""Key that recipes of its main branch read, and none of 0.6.1 -> what leaves it off, and what is left out where it is on
(recipes/full_finetune_distributed.py, 0.7.0 of August 2025)."""


def read_engine(
    keys: FrameworkKeys, recipe: str, world_size: int, at: Place, is_distributed: bool
) -> None:
    """Put engine, degrees, sharding and offload."""
    for name, (off, left_out) in LATER.items():
        later = keys.get(name)
        if later is not None and later.value not in (off, None):
            keys.leave_out(left_out, later)
    if not is_distributed:
        keys.put("engine", "single", Setting(True, at))
        return
    tensor = keys.count("tensor_parallel_dim")
    degree = 1 if tensor is None else tensor.value
    if tensor is not None:
        _check_tensor(keys, tensor, world_size)
    if world_size % degree:
        degree = 1
    shards = world_size // degree
    by = tensor if tensor is not None and degree > 1 else Setting(True, at)
    keys.put("engine", "fsdp2" if shards > 1 else "single", by)
    keys.put("shard_degree", shards, by)
    if degree > 1 and tensor is not None:
        keys.put("tensor_parallel_degree", degree, tensor)
    if shards == 1:
        return
    reshard = keys.flag("fsdp_reshard_after_forward")
    if reshard is not None:
        keys.put("reshard_after_forward", bool(reshard.value), reshard)
    else:
        keys.assume("reshard_after_forward", True)
    keys.assume("wrap_policy", "transformer", "shard_model shards every layer")
    offload = keys.flag("fsdp_cpu_offload")
    if offload is not None:
        place = "cpu" if offload.value else "none"
        keys.put("offload_params", place, offload)
        keys.put("offload_optimizer", place, offload)


def _check_tensor(keys: FrameworkKeys, tensor: Setting, world_size: int) -> None:
    """Refuse what the recipe refuses (full_finetune_distributed.py:153-167, 0.6.1)."""
    if tensor.value == 1:
        return
    if world_size % tensor.value:
        keys.refuse(
            f"{world_size} ranks are not divisible by tensor_parallel_dim {tensor.value}",
            tensor,
            "a divisor of the number of ranks",
        )
    if keys.get("tensor_parallel_plan") is None:
        keys.refuse("tensor_parallel_dim needs a tensor_parallel_plan", tensor, "give one")
    fused: Any = keys.flag("optimizer.fused")
    if fused is not None and fused.value:
        keys.refuse(
            "tensor parallelism and a fused optimizer exclude each other",
            fused,
            "optimizer.fused=False",
        )

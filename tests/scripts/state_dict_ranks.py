"""Print how much of a model a state dict has on each rank of FSDP1 and of FSDP2, as JSON: whole, or in shards."""

from __future__ import annotations

import json

import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp import StateDictType, fully_shard
from torch.distributed.tensor import DTensor


def held(model: torch.nn.Module) -> int:
    tensors = model.state_dict().values()
    return sum((t.to_local() if isinstance(t, DTensor) else t).numel() for t in tensors)


def model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))


dist.init_process_group("gloo")
wrapped = FSDP(model(), device_id=torch.device("cpu"))
found = {"fsdp1": held(wrapped)}
with FSDP.state_dict_type(wrapped, StateDictType.FULL_STATE_DICT):
    found["full"] = held(wrapped)
    found["offloads"] = FSDP.get_state_dict_type(wrapped).state_dict_config.offload_to_cpu
with FSDP.summon_full_params(wrapped):
    found["summoned"] = sum(each.numel() for each in wrapped.parameters())
found["fsdp2"] = held(fully_shard(model()))
if dist.get_rank() == 0:
    print(json.dumps(found))
dist.destroy_process_group()

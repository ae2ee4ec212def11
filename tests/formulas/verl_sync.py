"""Hand an FSDP1 model's weights on as verl does, on real gloo ranks, and print what that takes beside its shards, as JSON.

Source: verl/workers/fsdp_workers.py rollout_mode (0.7.1): a sharded state dict, of which one tensor after the other is made
whole. Usage (on ranks): verl_sync.py CONFIG_JSON
"""

from __future__ import annotations

import json
import sys
from functools import partial

import torch
import torch.distributed as dist
from allocations import Allocations
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, StateDictType
from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer


def main() -> None:
    """Print the bytes that the first rank holds at most, less its shards."""
    dist.init_process_group("gloo")
    config = AutoConfig.for_model(**json.loads(sys.argv[1]))
    wrap = partial(transformer_auto_wrap_policy, transformer_layer_cls={LlamaDecoderLayer})
    model = FullyShardedDataParallel(
        AutoModelForCausalLM.from_config(config).float(),
        use_orig_params=False,
        auto_wrap_policy=wrap,
        device_mesh=init_device_mesh("cpu", (dist.get_world_size(),)),
        device_id=torch.device("cpu"),
    )
    FullyShardedDataParallel.set_state_dict_type(model, StateDictType.SHARDED_STATE_DICT)
    allocations = Allocations()
    with allocations:
        for parameter in model.parameters():
            allocations.track(parameter.data)
        shards = allocations.now
        state = model.state_dict()
        allocations.mark("sync")
        whole = None
        for name in list(state):
            whole = state[name].full_tensor()
    if dist.get_rank() == 0:
        print(json.dumps({"beside": allocations.peaks["sync"] - shards, "last": whole.numel()}))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

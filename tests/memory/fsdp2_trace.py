"""Trace one steady FSDP2 step of a small Llama on fake tensors; print the peak of each part as JSON.

Wrapping and precision are accelerate 1.15's (utils/fsdp_utils.py fsdp2_prepare_model): fp32 shards,
bf16 compute and reduction, a unit per layer, the embedding, and norm with head.
Usage: fsdp2_trace.py CONFIG_JSON WORLD_SIZE MICRO_BATCH SEQ_LEN CHECKPOINTING RESHARD ACCUMULATION
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.filterwarnings("ignore")

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from allocations import Allocations  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
from torch.distributed.device_mesh import init_device_mesh  # noqa: E402
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: E402
from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM, masking_utils  # noqa: E402


def main() -> None:
    values = json.loads(sys.argv[1])
    world, micro, length = (int(text) for text in sys.argv[2:5])
    checkpointing, reshard, accumulation = (int(text) for text in sys.argv[5:8])
    dist.init_process_group("fake", rank=0, world_size=world, store=FakeStore())
    mesh = init_device_mesh("cpu", (world,))
    # Decisions that look at values cannot be taken on fake tensors: no padding, no packing.
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    masking_utils.fast_all = lambda tensor: True
    with FakeTensorMode():
        config = AutoConfig.for_model(**values)
        config._attn_implementation = "sdpa"
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.bfloat16, torch.bfloat16)
        arguments = {"mesh": mesh, "mp_policy": policy}
        for layer in model.model.layers:
            fully_shard(layer, reshard_after_forward=bool(reshard), **arguments)
        embed, head = model.model.embed_tokens, model.lm_head
        if embed.weight is head.weight:
            fully_shard([model.model.norm, embed, head], reshard_after_forward=False, **arguments)
        else:
            fully_shard(embed, reshard_after_forward=bool(reshard), **arguments)
            fully_shard([model.model.norm, head], reshard_after_forward=False, **arguments)
        fully_shard(model, **arguments)
        print(json.dumps(step_peaks(model, micro, length, accumulation)))
    dist.destroy_process_group()


def step_peaks(model, micro: int, length: int, accumulation: int) -> dict[str, int]:
    """Run two steps and return the peaks of the second."""
    optimizer = torch.optim.AdamW(model.parameters(), fused=False, foreach=False)
    allocations = Allocations()
    num_layers = len(model.model.layers)
    training = True

    def enter(index: int):
        return lambda *_: allocations.mark(f"forward {index}") if training else None

    def leave(index: int):
        def hook(module, inputs, output):
            if not training:
                return
            output.register_hook(lambda _: allocations.mark(f"backward {index}"))
            if index == num_layers - 1:
                allocations.mark("loss_forward")

        return hook

    for index, layer in enumerate(model.model.layers):
        layer.register_forward_pre_hook(enter(index))
        layer.register_forward_hook(leave(index))
    model.model.embed_tokens.register_forward_hook(
        lambda module, inputs, output: (
            output.register_hook(lambda _: allocations.mark("embedding_backward")) and None
        )
    )
    with allocations:
        for tensor in (*model.parameters(), *model.buffers()):
            allocations.track(tensor.to_local() if hasattr(tensor, "to_local") else tensor)
        for _ in range(2):
            for number in range(accumulation):
                model.set_requires_gradient_sync(number == accumulation - 1)
                ids = torch.zeros(micro, length, dtype=torch.long)
                allocations.mark("forward")
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
                allocations.mark("loss_backward")
                loss.backward()
                del loss
            allocations.mark("optimizer_step")
            optimizer.step()
            optimizer.zero_grad()
    return allocations.peaks


if __name__ == "__main__":
    main()

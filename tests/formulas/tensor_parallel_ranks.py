"""One rank of a small Llama under tensor parallelism: what its layers save, and the shapes of its parameters.

Usage (on ranks): tensor_parallel_ranks.py LAYOUT CONFIG

LAYOUT is `torchtitan` (apply_tp of torchtitan 0.1.0, by transformers' names) or `transformers` (LlamaConfig's
base_model_tp_plan, 5.24.0). Rank 0 prints JSON. Storages are counted once, whole, and parameters not at all.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed._functional_collectives import AsyncCollectiveTensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from transformers import LlamaConfig, LlamaForCausalLM

BATCH, LENGTH = 2, 32
MLP = {f"mlp.{name}_proj": ColwiseParallel for name in ("gate", "up")}
ATTENTION = {f"self_attn.{name}_proj": ColwiseParallel for name in "qkv"}


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return what this rank holds of a tensor."""
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    return tensor.wait() if isinstance(tensor, AsyncCollectiveTensor) else tensor


def divide(model: LlamaForCausalLM, layout: str, ranks: int) -> None:
    mesh = init_device_mesh("cpu", (ranks,))
    inner = {name: style() for name, style in {**MLP, **ATTENTION}.items()}
    if layout == "torchtitan":
        gathered = {"input_layouts": (Shard(1),), "desired_input_layouts": (Replicate(),)}
        named = {
            f"{key[: -len('input_layouts')]}input_kwarg_layouts": {"hidden_states": value[0]}
            for key, value in gathered.items()
        }
        outer: dict[str, Any] = {
            "model.embed_tokens": RowwiseParallel(
                input_layouts=Replicate(), output_layouts=Shard(1)
            ),
            "model.norm": SequenceParallel(),
            "lm_head": ColwiseParallel(
                input_layouts=Shard(1), output_layouts=Shard(-1), use_local_output=False
            ),
        }
        inner |= {
            "input_layernorm": SequenceParallel(),
            "self_attn": PrepareModuleInput(**named),
            "self_attn.o_proj": RowwiseParallel(output_layouts=Shard(1)),
            "post_attention_layernorm": SequenceParallel(),
            "mlp": PrepareModuleInput(**gathered),
            "mlp.down_proj": RowwiseParallel(output_layouts=Shard(1)),
        }
    else:
        outer = {"lm_head": ColwiseParallel(output_layouts=Replicate())}
        inner |= {"self_attn.o_proj": RowwiseParallel(), "mlp.down_proj": RowwiseParallel()}
    parallelize_module(model, mesh, outer)
    for layer in model.model.layers:
        parallelize_module(layer, mesh, inner)


def saved_bytes(model: LlamaForCausalLM, config: dict[str, Any]) -> tuple[int, list[int]]:
    """Return what a layer in the middle saves for its backward on this rank, and the shape of the logits."""
    parameters = {local(p).untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, tuple[int, torch.Tensor]] = {}
    number = -1

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held = local(tensor.detach())
        pointer = held.untyped_storage().data_ptr()
        if pointer not in parameters:
            saved.setdefault(pointer, (number, held))
        return tensor

    ids = torch.randint(0, config["vocab_size"], (BATCH, LENGTH))
    hidden = model.model.embed_tokens(ids)
    tables = model.model.rotary_emb(
        torch.empty(BATCH, LENGTH, config["hidden_size"]), torch.arange(LENGTH)[None]
    )
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        for number, layer in enumerate(model.model.layers):  # noqa: B007
            hidden = layer(hidden, position_embeddings=tables, attention_mask=None)
        number = -1
        logits = model.lm_head(model.model.norm(hidden))
    of_second = sum(t.untyped_storage().nbytes() for place, t in saved.values() if place == 1)
    return of_second, list(local(logits).shape)


def main() -> None:
    layout, config = sys.argv[1], json.loads(sys.argv[2])
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**config, attn_implementation="sdpa", use_cache=False))
    whole, _ = saved_bytes(model, config)
    divide(model, layout, dist.get_world_size())
    saved, logits = saved_bytes(model, config)
    if dist.get_rank() == 0:
        shapes = {name: list(local(p).shape) for name, p in model.named_parameters()}
        print(json.dumps({"whole": whole, "saved": saved, "logits": logits, "shapes": shapes}))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

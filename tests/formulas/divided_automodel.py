"""Train a small model on gloo ranks as NeMo Automodel divides it, and count what each rank holds, case by case.

Usage: torchrun --nproc-per-node RANKS divided_automodel.py WHEEL < CASES.jsonl > ROWS.jsonl
WHEEL holds nemo-automodel 0.7.0 with torchao, torchdata and kernels beside it. A case says model, degrees and loss; a row
is the case with the most that the fullest rank held in a step, which is taken as recipes/llm/train_ft.py takes it.
"""

from __future__ import annotations

import gc
import json
import sys
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist
from divided_sizes import SIZES
from real_phases import Counted
from real_ranks import local, settle
from transformers import AutoConfig, AutoModelForCausalLM

NUM_STEPS = 3
OWN = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}


def part(name: str) -> Any:
    return import_module(f"nemo_automodel.components.{name}")


def model_of(case: dict[str, Any], sizes: dict[str, Any]) -> torch.nn.Module:
    """Return Automodel's own class of a type, or transformers'."""
    dtype = torch.bfloat16 if case["stored"] == "bf16" else torch.float32
    config = AutoConfig.for_model(**sizes, num_hidden_layers=case["layers"], dtype=dtype)
    config._attn_implementation, config.use_cache = "sdpa", False
    kind = sizes["model_type"]
    if case["own"]:
        made = getattr(part(f"models.{kind}.model"), OWN[kind])(config).to(dtype)
    else:
        made = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if "lora" in case:
        peft = part("_peft.lora")
        config = peft.PeftConfig(target_modules=["*_proj"], dim=case["lora"], use_triton=False)
        peft.apply_lora_to_linear_modules(made, config)
    return made.train()


def loss_of(case: dict[str, Any], model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Return the loss of one batch (_forward_backward_step)."""
    losses = part("loss.utils")
    if "chunk" not in case:
        out = model(input_ids=ids)
        fn, shared = part("loss.masked_ce").MaskedCrossEntropy(), {}
    else:
        fn = part("loss.chunked_ce").ChunkedCrossEntropy(chunk_len=case["chunk"], compile=False)
        out = model(input_ids=ids, logits_to_keep=1, output_hidden_states=True)
        weight = losses.prepare_lm_weight(fn, model, grad_reduce_group=dist.group.WORLD)
        of = {"grad_reduce_group": dist.group.WORLD, "logits_dtype": out.logits.dtype}
        shared = {"hidden_states": out.hidden_states[-1], "lm_weight": weight, **of}
    loss = losses.calculate_loss(
        fn,
        logits=out.logits,
        labels=ids.clone(),
        model=model,
        num_label_tokens=ids.numel(),
        **shared,
    )
    return loss * dist.get_world_size()


def peak_of(case: dict[str, Any]) -> int:
    """Return the most that this rank held in a step."""
    sizes = SIZES | case.get("sizes", {})
    torch.manual_seed(0)
    strategy = part("distributed.config").FSDP2Config(
        activation_checkpointing=case["checkpointing"] == "full"
    )
    degrees = part("distributed.mesh").ParallelismSizes(tp_size=case.get("tensor", 1))
    allocations = Counted()
    with allocations:
        model = model_of(case, sizes)
        mesh, _ = part("distributed.mesh_utils")._create_fsdp2_device_mesh(
            degrees, world_size=dist.get_world_size()
        )
        model = (
            part("distributed.fsdp2").FSDP2Manager(strategy, device_mesh=mesh).parallelize(model)
        )
        gc.collect()
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=True)
        for each in (*model.parameters(), *model.buffers()):
            allocations.track(local(each))
        steady = []
        for _ in range(NUM_STEPS):
            allocations.peaks = {}
            allocations.mark("step")
            ids = torch.randint(0, sizes["vocab_size"], (case["batch"], case["length"]))
            loss_of(case, model, ids).backward()
            allocations.mark("optimizer")
            optimizer.step()
            optimizer.zero_grad()
            steady.append(allocations.peaks)
        settle(allocations)
        return min(peaks["step"] for peaks in steady[1:])


def main() -> None:
    sys.path.append(sys.argv[1])
    dist.init_process_group("gloo")
    sent = [sys.stdin.read() if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(sent)
    for case in (json.loads(line) for line in str(sent[0]).splitlines()):
        ranks = [None] * dist.get_world_size()
        dist.all_gather_object(ranks, peak_of(case))
        if dist.get_rank() == 0:
            row = {**case, "ranks": len(ranks), "peak": max(ranks)}
            print(json.dumps(row), flush=True)
        gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""Train a small Llama of transformers' on gloo ranks through accelerate's ParallelismConfig, and count what each rank holds.

Usage: torchrun --nproc-per-node RANKS divided_accelerate.py < CASES.jsonl > ROWS.jsonl
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
from typing import Any

import accelerate
import torch
import torch.distributed as dist
import transformers
from accelerate import Accelerator
from accelerate.parallelism_config import ParallelismConfig
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import (
    DeepSpeedPlugin,
    DeepSpeedSequenceParallelConfig,
    FullyShardedDataParallelPlugin,
    TorchContextParallelConfig,
)
from divided_sizes import BUCKETS, SIZES
from real_phases import Counted
from real_ranks import local, num_bytes, settle
from ring_on_cpu import install
from transformers import AutoConfig, AutoModelForCausalLM

NUM_STEPS = 4
VERSIONS = {m.__name__: m.__version__.partition("+")[0] for m in (transformers, accelerate, torch)}
moved = torch.Tensor.to


def stay(self: torch.Tensor, *to: Any, **named: Any) -> torch.Tensor:
    """Take a rank's GPU, which from_pretrained names by its number, for the CPU."""
    return moved(self, *("cpu" if type(each) is int else each for each in to), **named)


torch.Tensor.to = stay  # type: ignore[method-assign]


def accelerator_of(case: dict[str, Any]) -> Accelerator:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    if "sequence" in case:
        return exchanging(case)
    tensor, shard, context = (case.get(name, 1) for name in ("tensor", "shard", "context"))
    more: dict[str, Any] = {}
    if context > 1:
        install()
        more["cp_handler"] = TorchContextParallelConfig(case.get("rotate", "allgather"))
    degrees = ParallelismConfig(
        tp_size=tensor,
        dp_shard_size=shard // context,
        dp_replicate_size=case.get("replicate", 1),
        cp_size=context,
        **more,
    )
    more = {}
    for name in [n for n in os.environ if n.startswith(("ACCELERATE_USE", "FSDP_"))]:
        del os.environ[name]
    if shard > 1:
        os.environ["ACCELERATE_USE_FSDP"] = "true"
        os.environ["FSDP_VERSION"] = "2"
        os.environ["FSDP_TRANSFORMER_CLS_TO_WRAP"] = "LlamaDecoderLayer"
        more["fsdp_plugin"] = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            reshard_after_forward=True,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["LlamaDecoderLayer"],
            cpu_ram_efficient_loading=False,
        )
    return Accelerator(
        mixed_precision=case.get("mixed", "bf16"), parallelism_config=degrees, **more
    )


def exchanging(case: dict[str, Any]) -> Accelerator:
    """Return an Accelerator under whose DeepSpeed ranks exchange heads (Ulysses)."""
    settings = {
        "train_micro_batch_size_per_gpu": case["batch"],
        "gradient_accumulation_steps": 1,
        "bf16": {"enabled": True},
        "zero_optimization": {"stage": int(case["engine"][-1]), **BUCKETS},
    }
    handler = DeepSpeedSequenceParallelConfig(
        sp_seq_length_is_variable=True, sp_attn_implementation="sdpa"
    )
    degree = case["sequence"]
    degrees = ParallelismConfig(
        sp_size=degree,
        sp_backend="deepspeed",
        sp_handler=handler,
        dp_shard_size=dist.get_world_size() // degree,
    )
    return Accelerator(
        deepspeed_plugin=DeepSpeedPlugin(hf_ds_config=settings), parallelism_config=degrees
    )


def pieces_of(ids: torch.Tensor, degree: int) -> dict[str, torch.Tensor]:
    """Return this rank's piece of rows as UlyssesSPDataLoaderAdapter cuts them (ulysses_sp.py, 0.19.8)."""
    places = torch.arange(ids.shape[1]).expand(ids.shape[0], -1)
    shifted = torch.nn.functional.pad(ids, (0, 1), value=-100)[:, 1:]
    whole = {"input_ids": ids, "position_ids": places, "shift_labels": shifted}
    mine = dist.get_rank() % degree
    return {name: each.chunk(degree, dim=1)[mine].clone() for name, each in whole.items()}


def step(accelerator: Accelerator, model: Any, ids: torch.Tensor, packed: bool) -> None:
    """Run one forward and backward as Trainer does (trainer.py _prepare_context_parallel_inputs, 5.24.0)."""
    degrees = accelerator.parallelism_config
    if degrees is not None and degrees.sp_size > 1:
        mine = pieces_of(ids, degrees.sp_size)
        del ids
        loss = model(**mine, labels=mine["shift_labels"]).loss
        accelerator.backward(loss)
        return
    if degrees is None or not degrees.cp_enabled:
        loss = model(input_ids=ids, labels=ids).loss
        accelerator.backward(loss)
        return
    labels, shifted = ids.clone(), torch.nn.functional.pad(ids, (0, 1), value=-100)[:, 1:].clone()
    places = torch.arange(ids.shape[1]).expand(ids.shape[0], -1).clone()
    inputs = {"input_ids": ids, "labels": labels, "shift_labels": shifted, "position_ids": places}
    if not packed:
        inputs["attention_mask"] = torch.ones_like(ids)
    buffers = list(inputs.values())
    with accelerator.maybe_context_parallel(
        buffers=buffers, buffer_seq_dims=[1] * len(buffers), no_restore_buffers=set(buffers)
    ):
        loss = model(**inputs).loss
        accelerator.backward(loss)


def folder_of(case: dict[str, Any], folder: str) -> str:
    return f"{folder}/{case['layers']}{sorted(case.get('sizes', {}).items())}"


def write_models(cases: list[dict[str, Any]], folder: str) -> None:
    """Write the models that cases read, before an engine divides what is made."""
    for case in cases:
        path = folder_of(case, folder)
        if dist.get_rank() == 0 and not os.path.exists(path):
            sizes = SIZES | case.get("sizes", {})
            config = AutoConfig.for_model(**sizes, num_hidden_layers=case["layers"])
            AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(
                path, safe_serialization=False
            )
    dist.barrier()


def loaded_over(case: dict[str, Any], accelerator: Accelerator) -> dict[str, Any]:
    """Return what a model is loaded with that is divided by tensor parallelism."""
    tensor = case.get("tensor", 1)
    if tensor == 1:
        return {}
    if transformers.__version__ >= "5.13":
        from transformers.distributed import DistributedConfig

        return {"distributed_config": DistributedConfig(tp_size=tensor, tp_plan="auto")}
    return {"tp_plan": "auto", "device_mesh": accelerator.torch_device_mesh}


def settle_loaded(model: Any, case: dict[str, Any]) -> None:
    """Do to a model that was loaded what a framework on top of transformers does to it; nothing here."""


def run(case: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return what this rank holds between steps, and the most that it held in one."""
    accelerator = accelerator_of(case)
    torch.manual_seed(0)
    sizes = SIZES | case.get("sizes", {})
    path = folder_of(case, folder)
    divided = loaded_over(case, accelerator)
    allocations = Counted()
    with allocations:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=getattr(torch, case.get("dtype", "float32")), **divided
        ).train()
        settle_loaded(model, case)
        model.config.use_cache = False
        for each in model.parameters():  # a part of what was read, which on a CPU is no copy
            if hasattr(each, "_local_tensor"):
                each._local_tensor = each._local_tensor.clone()
        if case.get("checkpointing") == "full":
            model.gradient_checkpointing_enable({"use_reentrant": False})
        fused = (
            case.get("shard", 1) > 1
        )  # DTensors and others are in no step together but one by one
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused, foreach=False)
        model, optimizer = accelerator.prepare(model, optimizer)
        gc.collect()
        parameters = list(model.parameters())
        for each in (*parameters, *model.buffers()):
            allocations.track(local(each))
        steady = []
        for _ in range(NUM_STEPS):
            allocations.peaks = {}
            allocations.mark("step")
            ids = torch.randint(0, sizes["vocab_size"], (case["batch"], case["length"]))
            step(accelerator, model, ids, case.get("packed", False))
            gradients = num_bytes(p.grad for p in parameters if p.grad is not None)
            allocations.mark("optimizer")
            optimizer.step()
            optimizer.zero_grad()
            allocations.mark("between")
            steady.append(allocations.peaks)
        settle(allocations)
        inner = optimizer.optimizer
        states = num_bytes(
            value for state in inner.state.values() for value in state.values() if value.dim()
        )
        return {
            "params": num_bytes(parameters),
            "gradients": gradients,
            "states": states,
            "buffers": num_bytes(model.buffers()),
            "between": allocations.now,
            "peaks": {
                part: min(peaks[part] for peaks in steady[1:]) for part in ("step", "optimizer")
            },
        }


def main() -> None:
    Accelerator(mixed_precision="bf16")
    if not dist.is_initialized():
        dist.init_process_group("gloo")
    sent = [sys.stdin.read() if dist.get_rank() == 0 else None, tempfile.mkdtemp()]
    dist.broadcast_object_list(sent)
    cases = [json.loads(line) for line in sent[0].splitlines()]
    write_models(cases, sent[1])
    for case in cases:
        mine, ranks = run(case, sent[1]), [None] * dist.get_world_size()
        dist.all_gather_object(ranks, mine)
        if dist.get_rank() == 0:
            print(json.dumps({**case, **VERSIONS, "ranks": ranks}), flush=True)
        gc.collect()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

"""Experiments that need a process group: run as one process of one rank, prints name -> outcome as JSON.

Started once by test_training_ranks.py; every outcome is what a library did with a tiny model.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings

import tiny_training as lab
import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import Trainer, TrainingArguments
from transformers.trainer_optimizer import _setup_low_rank_optimizer

CPU = torch.device("cpu")


def fsdp1(folder, **bits):
    """Flatten one layer of a quantized model, as FSDP1 does."""
    layer = lab.quantized(folder, **bits).model.layers[0]
    FullyShardedDataParallel(layer, device_id=CPU, use_orig_params=True)


def fsdp2_int8(folder):
    model = lab.quantized(folder, load_in_8bit=True)
    fully_shard(model.model.layers[0])
    fully_shard(model)
    model(**lab.batch())


def ddp(use_reentrant, find_unused_parameters):
    model = lab.tiny()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    model.train()
    wrapped = DistributedDataParallel(model, find_unused_parameters=find_unused_parameters)
    wrapped(**lab.batch()).loss.backward()


def several_devices(bypass=False):
    AcceleratorState._reset_state(True)
    model = lab.tiny()
    model.hf_device_map = {"model": 0} if bypass else {"model": 0, "lm_head": 1}
    Accelerator(cpu=True).prepare(model)


def layerwise():
    AcceleratorState._reset_state(True)
    name = "galore_adamw_layerwise"
    args = arguments(use_cpu=True, optim=name, optim_target_modules=["mlp"])
    _setup_low_rank_optimizer(args, lab.tiny(), name, {name: torch.optim.AdamW}, {}, {})


def arguments(**values):
    return TrainingArguments(output_dir=tempfile.mkdtemp(), report_to=[], **values)


def deepspeed_trainer(stage, **values):
    AcceleratorState._reset_state(True)
    auto = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
    config = {"zero_optimization": {"stage": stage}, **dict.fromkeys(auto, "auto")}
    args = arguments(deepspeed=config, **values)
    Trainer(model=lab.tiny(), args=args, train_dataset=lab.rows(), eval_dataset=lab.rows())


def deepspeed_cast(folder, storage):
    """Return how far the weights of a packed layer move when DeepSpeed takes the model in bf16."""
    import bitsandbytes
    import deepspeed

    base = lab.quantized(folder, load_in_4bit=True, bnb_4bit_quant_storage=storage)
    model = get_peft_model(base, LoraConfig(target_modules=["q_proj"]))
    packed = base.model.layers[0].mlp.up_proj.weight
    unpacked = bitsandbytes.functional.dequantize_4bit
    before = unpacked(packed.data.clone(), packed.quant_state).float()
    deepspeed.initialize(
        model=model,
        model_parameters=[p for p in model.parameters() if p.requires_grad],
        config={
            "train_micro_batch_size_per_gpu": 1,
            "bf16": {"enabled": True},
            "zero_optimization": {"stage": 1},
            "optimizer": {"type": "AdamW", "params": {"torch_adam": True}},
            "zero_force_ds_cpu_optimizer": False,
        },
    )
    packed = base.model.layers[0].mlp.up_proj.weight
    after = unpacked(packed.data, packed.quant_state).float()
    return (before - after).abs().max().item() / before.abs().max().item()


def main() -> None:
    """Run every experiment and print what came of it."""
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo")
    folder = tempfile.mkdtemp()
    lab.tiny().save_pretrained(folder)
    best = {
        "save_only_model": True,
        "load_best_model_at_end": True,
        "eval_strategy": "steps",
        "metric_for_best_model": "loss",
    }
    four = {"load_in_4bit": True}
    experiments = {
        "fsdp1 int8": lambda: fsdp1(folder, load_in_8bit=True),
        "fsdp1 uint8": lambda: fsdp1(folder, **four),
        "fsdp1 float32": lambda: fsdp1(folder, **four, bnb_4bit_quant_storage=torch.float32),
        "fsdp1 bfloat16": lambda: fsdp1(folder, **four, bnb_4bit_quant_storage=torch.bfloat16),
        "fsdp2 int8": lambda: fsdp2_int8(folder),
        "ddp reentrant unused": lambda: ddp(True, True),
        "ddp reentrant": lambda: ddp(True, False),
        "ddp unused": lambda: ddp(False, True),
        "several devices": several_devices,
        "one device": lambda: several_devices(bypass=True),
        "layerwise": layerwise,
        "cast uint8": lambda: deepspeed_cast(folder, torch.uint8),
        "cast bfloat16": lambda: deepspeed_cast(folder, torch.bfloat16),
        "cast float16": lambda: deepspeed_cast(folder, torch.float16),
        "zero3 auto batch": lambda: deepspeed_trainer(3, auto_find_batch_size=True),
        "zero1 auto batch": lambda: deepspeed_trainer(1, auto_find_batch_size=True),
        "zero1 best": lambda: deepspeed_trainer(1, **best),
    }
    outcomes = {}
    for name, experiment in experiments.items():
        try:
            outcomes[name] = experiment()
        except Exception as error:
            outcomes[name] = f"{type(error).__name__}: {error}"
    print("\n" + json.dumps(outcomes), file=sys.__stdout__, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

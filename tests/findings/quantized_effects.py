"""Experiments with a base that bitsandbytes packs and adapters on it, under FSDP and ZeRO."""

from __future__ import annotations

import tempfile

import torch
import torch.distributed as dist
from effect_ranks import (
    Results,
    backward,
    experiment,
    local_bytes,
    model_of,
    prepared,
    refusal,
    start,
    with_lora,
)


def quantized(
    storage: torch.dtype = torch.uint8, dtype: torch.dtype = torch.bfloat16
) -> torch.nn.Module:
    """Return a Llama with adapters on packed linear layers, made from a file as users do."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    with tempfile.TemporaryDirectory() as folder:
        folders = [folder]
        dist.broadcast_object_list(folders, src=0)
        folder = folders[0]
        if dist.get_rank() == 0:
            model_of(torch.bfloat16).save_pretrained(folder)
        dist.barrier()
        four = {"bnb_4bit_compute_dtype": torch.bfloat16, "bnb_4bit_quant_storage": storage}
        settings = BitsAndBytesConfig(load_in_4bit=True, **four)
        model = AutoModelForCausalLM.from_pretrained(
            folder, quantization_config=settings, dtype=dtype, device_map={"": "cpu"}
        )
        dist.barrier()
    return with_lora(model)


def base_bytes(model: torch.nn.Module) -> int:
    """Return this rank's bytes of the weights below the adapters, in the layers."""
    return local_bytes(
        p for name, p in model.named_parameters() if ".layers." in name and "base_layer" in name
    )


def with_peft_policy(accelerator, model: torch.nn.Module) -> None:
    """Wrap trained leaves by themselves, as Trainer does (transformers/trainer.py, PEFT and FSDP1)."""
    import peft

    accelerator.state.fsdp_plugin.auto_wrap_policy = peft.utils.other.fsdp_auto_wrap_policy(model)


@experiment
def packed_base_fsdp2() -> Results:
    """This rank's bytes of the packed base, whole and after `prepare`, by storage dtype."""
    found: Results = {}
    for name in ("uint8", "bfloat16"):
        accelerator = start(2, "bf16")
        model = quantized(getattr(torch, name))
        found[f"{name} whole"] = base_bytes(model)
        model, _ = prepared(accelerator, model)
        found[name] = base_bytes(model)
    return found


@experiment
def packed_base_in_another_dtype() -> Results:
    """Whether a layer computes with the bits it was loaded with, under bf16, by storage dtype."""
    found: Results = {}
    for version in (1, 2):
        for storage in ("bfloat16", "float16"):
            accelerator = start(version, "bf16", use_orig_params="true")
            dtype = getattr(torch, storage)
            model = quantized(dtype, dtype=dtype)
            linear = model.get_base_model().model.layers[1].mlp.up_proj
            loaded = as_bytes(linear.weight.data)
            seen: list[torch.Tensor] = []
            linear.register_forward_pre_hook(
                lambda module, inputs, seen=seen: seen.append(as_bytes(module.weight.data))
            )
            if version == 1:
                with_peft_policy(accelerator, model)
            model, _ = prepared(accelerator, model)
            ids = torch.arange(16).reshape(1, 16)
            model(input_ids=ids, labels=ids)
            found[f"fsdp{version} {storage}"] = bool((seen[0] == loaded).all())
    return found


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.clone().contiguous().view(torch.uint8).flatten()


@experiment
def adapters_in_a_flat_parameter() -> Results:
    """LoRA under FSDP1, wrapped by layer as in a loop of one's own, or by PEFT's policy as in Trainer."""

    def run(policy: bool, orig: str, dtype: torch.dtype) -> str:
        accelerator = start(1, "bf16", use_orig_params=orig)
        model = with_lora(model_of(dtype))
        if policy:
            with_peft_policy(accelerator, model)
        return refusal(lambda: backward(accelerator, prepared(accelerator, model)[0]))

    return {
        f"peft {policy}, orig {orig}, {dtype}": run(policy, orig, getattr(torch, dtype))
        for policy in (False, True)
        for orig in ("false", "true")
        for dtype in ("float32", "bfloat16")
    }

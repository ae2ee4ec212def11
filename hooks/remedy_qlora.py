"""qlora: LoRA on a base packed to 4 bits, NF4 with double quantization (Dettmers et al. 2023).

Saves      three quarters of the base's linear weights; embeddings and head stay in 16 bits
Costs      10 to 40 percent of a step for unpacking weights
Safety     changes_training: another method on a rounded base. The paper's section 4 finds NF4 with
           double quantization on par with 16-bit LoRA on the benchmarks it ran (MMLU, Vicuna)
Under FSDP the packed bits must pretend to be the compute dtype (bnb_4bit_quant_storage), or FSDP2
           leaves a full copy on every rank. Under DDP and ZeRO-1/2 the base is on every rank anyway.
           Every rank loads the whole packed base before it is sharded
Written as --load_in_4bit --use_bnb_nested_quant --bnb_4bit_quant_storage bfloat16 with the LoRA flags (TRL),
           and as the keys of axolotl and LLaMA-Factory
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from preflight.formulas.layers.heads import trains_value_model
from preflight.hookspecs import hookimpl
from preflight.launch import BaseQuantization, LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.remedy import SUGGESTED_ADAPTER, Remedy, beside_adapter
from preflight.trainers.prepared_base import prepared_by_trl


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Offer QLoRA where the base is not packed yet."""
    if trains_value_model(plan):
        return  # what is trained is two models: an adapter goes on one of them
    if plan.base_quantization is not None or not model.layers:
        return
    fp16 = plan.mixed_precision == "fp16"
    half = "fp16" if fp16 else "bf16"
    dtype = "float16" if fp16 else "bfloat16"
    storage = half if plan.is_fsdp or plan.engine == "zero3" else None
    quantization = BaseQuantization("nf4", True, compute_dtype=half, storage_dtype=storage)
    adapter = plan.adapter or SUGGESTED_ADAPTER
    launcher = launcher_of(plan)
    if launcher.packs_base:
        quantization = replace(quantization, storage_dtype=half, upcast_unquantized_to_fp32="none")
    elif plan.trainer == "trl":
        method, under_bf16 = plan.trainer_facts.method, plan.mixed_precision == "bf16"
        made = prepared_by_trl(method, plan.versions, "none", under_bf16)
        quantization = replace(quantization, upcast_unquantized_to_fp32=made.upcast)
        adapter = replace(adapter, dtype=made.adapter_dtype)
    flags = ["--load_in_4bit", "--use_bnb_nested_quant", f"--dtype {dtype}"]
    if storage:
        flags.append(f"--bnb_4bit_quant_storage {dtype}")
    if plan.adapter is None:
        flags.append(
            "--use_peft --lora_r 16 --lora_alpha 32 --lora_dropout 0.0"
            " --lora_target_modules all-linear"
        )
    taken_out, told = beside_adapter(plan)
    notes = [*told]
    if any(tensor.kind == "experts" for _, tensor in model.tensors()):
        notes.append("fused experts are not packed by bitsandbytes: they stay in 16 bits")
    if plan.engine in ("ddp", "zero0", "zero1", "zero2") and plan.world_size > 1:
        notes.append("the packed base is replicated on every rank under this engine")
    in_script = (
        f"in the script: BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type='nf4',"
        f" bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.{dtype}"
        + (f", bnb_4bit_quant_storage=torch.{dtype}" if storage else "")
        + ") and LoRA adapters"
    )
    yield Remedy(
        "qlora",
        f"QLoRA, NF4 base and LoRA of rank {adapter.rank}",
        {
            "base_quantization": quantization,
            "adapter": adapter,
            "load_dtype": launcher.frozen_base_dtype(half),
            **taken_out,
        },
        "changes_training",
        notes=tuple(notes),
        how=launcher.spellings.get(
            "qlora", " ".join(flags) if plan.trainer == "trl" else in_script
        ),
    )

"""Flags that training scripts of people's own commonly have, and the trainer argument that each stands for.

Reading one of these is an inference from its name alone, and is marked as one wherever it is used.
"""

from __future__ import annotations

from collections.abc import Collection

from preflight.near_names import nearest_fix
from preflight.plan_parts import LANGUAGE_MODEL, PROJECTOR, TOWER

SIZES = "sizes_of_model"
"""Argument that stands for the config of a model that a script builds; no flag is called so."""
SPELLINGS: dict[str, tuple[str, ...]] = {
    # The first spelling that is given wins.
    "model_name_or_path": (
        "model_name_or_path",
        "model_id",
        "model_path",
        "base_model",
        "pretrained_model_name_or_path",
        "model",
        "model_name",
    ),
    "seq_len": (
        "max_length",
        "max_seq_length",
        "max_seq_len",
        "seq_len",
        "seq_length",
        "sequence_length",
        "model_max_length",
        "block_size",
        "cutoff_len",
    ),
    "target_len": (
        "target_len",
        "max_target_length",
        "max_target_len",
        "target_max_length",
        "max_tgt_len",
    ),
    "per_device_train_batch_size": (
        "per_device_train_batch_size",
        "per_gpu_train_batch_size",
        "micro_batch_size",
        "micro_train_batch_size",
        "train_micro_batch_size",
        "train_micro_batch_size_per_gpu",
        "per_device_batch_size",
        "per_gpu_batch_size",
        "batch_size_per_gpu",
        "batch_size_per_device",
        "train_batch_size_per_device",
        "train_batch_size",
        "batch_size",
    ),
    "per_device_eval_batch_size": (
        "per_device_eval_batch_size",
        "per_gpu_eval_batch_size",
        "eval_batch_size",
    ),
    "gradient_accumulation_steps": (
        "gradient_accumulation_steps",
        "grad_accum_steps",
        "gradient_accumulation",
        "accumulation_steps",
    ),
    "eval_strategy": ("eval_strategy", "evaluation_strategy"),
    "max_grad_norm": ("max_grad_norm", "gradient_clipping", "grad_clip"),
    "optim": ("optim", "optimizer"),
    "mixed_precision": ("mixed_precision",),
    "bf16": ("bf16",),
    "fp16": ("fp16",),
    "dtype": ("dtype", "torch_dtype"),
    "attn_implementation": ("attn_implementation", "attention_implementation"),
    "use_flash_attn": (
        "use_flash_attn",
        "use_flash_attention",
        "use_flash_attention_2",
        "use_flash_attn_2",
        "flash_attn",
        "flash_attention",
    ),
    "gradient_checkpointing": (
        "gradient_checkpointing",
        "activation_checkpointing",
        "use_gradient_checkpointing",
    ),
    "packing": ("packing",),
    "use_peft": ("use_peft", "use_peft_lora", "use_lora", "lora"),
    "lora_r": ("lora_r", "lora_rank"),
    "lora_alpha": ("lora_alpha",),
    "lora_dropout": ("lora_dropout",),
    "lora_target_modules": ("lora_target_modules", "lora_target", "target_modules"),
    "lora_modules_to_save": ("lora_modules_to_save", "modules_to_save"),
    "use_dora": ("use_dora",),
    "load_in_4bit": ("load_in_4bit", "use_4bit", "qlora", "use_qlora", "use_4bit_quantization"),
    "load_in_8bit": ("load_in_8bit", "use_8bit", "use_8bit_quantization"),
    "bnb_4bit_quant_type": ("bnb_4bit_quant_type", "quant_type"),
    "use_bnb_nested_quant": (
        "use_bnb_nested_quant",
        "use_nested_quant",
        "double_quant",
        "use_double_quant",
        "bnb_4bit_use_double_quant",
    ),
    "bnb_4bit_compute_dtype": ("bnb_4bit_compute_dtype",),
    "bnb_4bit_quant_storage": (
        "bnb_4bit_quant_storage",
        "bnb_4bit_quant_storage_dtype",
    ),
    "torch_compile": ("torch_compile", "compile"),
    "use_liger_kernel": ("use_liger_kernel", "use_liger"),
}
"""Trainer argument (or seq_len) -> spellings of it, the surest first."""
ARGUMENT_OF = {spelling: name for name, each in SPELLINGS.items() for spelling in each}
"""Spelling -> the argument that it says."""
ALL_SPELLINGS = ARGUMENT_OF.keys()

DECLARABLE: dict[str, str] = {
    "model": "model_name_or_path",
    "seq_len": "seq_len",
    "target_len": "target_len",
    "micro_batch_size": "per_device_train_batch_size",
    "eval_micro_batch_size": "per_device_eval_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "max_grad_norm": "max_grad_norm",
    "optimizer": "optim",
    "mixed_precision": "mixed_precision",
    "load_dtype": "dtype",
    "attention": "attn_implementation",
    "activation_checkpointing": "gradient_checkpointing",
    "torch_compile": "torch_compile",
    "adapter": "use_peft",
    "adapter.rank": "lora_r",
    "adapter.alpha": "lora_alpha",
    "adapter.dropout": "lora_dropout",
    "adapter.targets": "lora_target_modules",
    "adapter.modules_to_save": "lora_modules_to_save",
    "base_quantization": "load_in_4bit",
    "base_quantization.scheme": "bnb_4bit_quant_type",
    "base_quantization.double_quant": "use_bnb_nested_quant",
    "base_quantization.compute_dtype": "bnb_4bit_compute_dtype",
    "base_quantization.storage_dtype": "bnb_4bit_quant_storage",
}
"""Plan field that a repository may declare a flag for -> the trainer argument that is read for it."""

OLD_NAMES = {
    "evaluation_strategy": ("eval_strategy", "it is eval_strategy now"),
    "group_by_length": (
        "train_sampling_strategy",
        "train_sampling_strategy group_by_length is it now",
    ),
    "include_inputs_for_metrics": ("include_for_metrics", "include_for_metrics inputs is it now"),
    "logging_dir": ("", "remove it: the variable TENSORBOARD_LOGGING_DIR is it now"),
    "no_cuda": ("use_cpu", "it is use_cpu now"),
    "overwrite_output_dir": ("", "remove it"),
    "push_to_hub_model_id": ("hub_model_id", "it is hub_model_id now"),
    "tpu_num_cores": ("", "remove it"),
    "use_ipex": ("", "remove it"),
    "warmup_ratio": (
        "warmup_steps",
        "warmup_steps takes it now: below 1 it is a share of the steps",
    ),
}
"""Arguments of TrainingArguments in transformers 4, no slips of the pen: the name that took over, and what to do."""


def argument_fix(name: str, known: Collection[str]) -> str:
    """Return what to write instead of an argument that a parser does not know, or an empty string."""
    plain = name.replace("-", "_")
    successor, words = OLD_NAMES.get(plain, ("", ""))
    if words and (not successor or successor in known):
        return words
    return nearest_fix(plain, tuple(known))


DTYPES: dict[str, str] = {
    "float32": "fp32",
    "fp32": "fp32",
    "float": "fp32",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "float16": "fp16",
    "fp16": "fp16",
    "half": "fp16",
}
"""Spelling of a dtype -> the plan's word for it; `torch.` in front is dropped before the look-up."""

ATTENTIONS: dict[str, str] = {
    "eager": "eager",
    "sdpa": "sdpa",
    "flash_attention_2": "flash_attention_2",
    "flash_attention_3": "flash_attention_3",
    "kernels-community/flash-attn": "flash_attention_2",
    "kernels-community/flash-attn2": "flash_attention_2",
    "kernels-community/flash-attn3": "flash_attention_3",
    "kernels-community/vllm-flash-attn3": "flash_attention_3",
}
"""Value of attn_implementation -> the plan's word for it."""


def attention_of(value: object) -> str | None:
    """Return the plan's word for an attn_implementation, whichever revision or function of a kernel it names
    (`OWNER/NAME@REVISION:FUNCTION`); None for one that is not priced."""
    return ATTENTIONS.get(str(value).split("@")[0].split(":")[0])


FREEZES = {
    "freeze_backbone": TOWER,
    "freeze_vision_modules": TOWER,
    "freeze_vision_tower": TOWER,
    "freeze_vit": TOWER,
    "freeze_aligner": PROJECTOR,
    "freeze_merger": PROJECTOR,
    "freeze_mlp": PROJECTOR,
    "freeze_multi_modal_projector": PROJECTOR,
    "freeze_language_model": LANGUAGE_MODEL,
    "freeze_llm": LANGUAGE_MODEL,
}
"""Flag that freezes a part where it is true."""
TUNES = {"tune_mm_vision": TOWER, "tune_mm_mlp": PROJECTOR, "tune_mm_llm": LANGUAGE_MODEL}
"""Flag that freezes a part where it is false."""
TUNES_PROJECTOR_ALONE = "tune_mm_mlp_adapter"
"""LLaVA's flag for its first stage; its code trains the embeddings of new tokens too where that is true."""

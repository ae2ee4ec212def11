"""Which values an argument of the Trainer can have at all: what has its name and another kind of value is no argument."""

from __future__ import annotations

import math

from preflight.formulas.layers.kernels import LIGER_BY_CALL
from preflight.scripts.arguments.trainer_spellings import SIZES
from preflight.scripts.arguments.trainer_tables import ArgumentTable
from preflight.versions.spans import moved_arguments

_NAMES: dict[str, tuple[str, ...]] = {
    "int": (
        "texts_per_row", "cached_rows", "seq_len", "target_len", "evaluated_len", "loop_eval_rows", "per_device_train_batch_size",
        "per_device_eval_batch_size", "gradient_accumulation_steps", "lora_r", "max_prompt_length",
        "max_completion_length", "num_generations", "num_iterations", "steps_per_generation",
        "generation_batch_size", "vllm_tensor_parallel_size", "vllm_max_model_length", "vllm_max_model_len",
        "response_length", "max_new_tokens", "local_rollout_forward_batch_size", "num_mini_batches",
        "train_group_size", "query_max_len", "passage_max_len", "max_len", "rerank_max_len", "pad_to_multiple_of",
        "generation_max_length", "generation_num_beams", "num_beams", "val_max_target_length", "sub_batch_size",
        "lora_alpha",
    ),
    "float": (
        "beta", "vllm_gpu_memory_utilization", "max_grad_norm", "lora_dropout",
    ),
    "flag": (
        "calls_evaluation", "pads_each_row", "predict_with_generate", "use_vllm", "grad_cache",
        "vllm_enable_sleep_mode", "ds3_gather_for_generation", "vllm_importance_sampling_correction",
        "use_transformers_paged", "use_transformers_continuous_batching", "bf16", "fp16", "use_flash_attn",
        "gradient_checkpointing", "packing", "use_peft", "use_dora", "load_in_4bit", "load_in_8bit",
        "kbit_preparation", "checkpointing_reentrant", "has_adapter", "use_bnb_nested_quant", "torch_compile",
        "use_liger_kernel", "use_liger_loss",
    ),
    "list": (
        "lora_target_modules", "lora_modules_to_save",
    ),
}  # fmt: skip
KINDS = {name: kind for kind, names in _NAMES.items() for name in names}
"""Argument -> what the text of a flag that stands for it is converted to; text where a name is missing."""
_IS_KIND: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "list_int": (list, tuple),
    "float": (int, float),
    "list_float": (list, tuple),
    "flag": (bool, int),
    "bool": (bool, int),
    "str": (str,),
    "optional_str": (str, bool),
    "list": (str, list, tuple),
    "dict": (str, dict),
    "file_only": (str, bool, int, float, list, tuple, dict),
}
_OWN_KINDS = {
    "fsdp": (str, bool, list, tuple),
    "seq_len": (int,),
    "pad_to_multiple_of": (int, str),
    "keeps_outputs": (bool, str),
    "zero_grad_set_to_none": (bool,),
    "target_len": (int,),
    "loss_type": (str, list, tuple),
    "optim_args": (str, dict),
    "optim_target_modules": (str, list, tuple),
    **dict.fromkeys(("precompute_ref_log_probs", "padding_free"), (bool, int)),
    "precompute_ref_batch_size": (int,),
    LIGER_BY_CALL: (dict,),
    "lora_target_modules": (str, list, tuple),
    SIZES: (dict,),
}


def is_of_its_kind(name: str, value: object, table: ArgumentTable) -> bool:
    """Tell whether an argument can have a value; a script or a file may have a name that only looks like one."""
    argument = table.arguments.get(name)
    if argument is None and name not in KINDS and name in moved_arguments():
        return True  # of another release, whose kinds no table has
    kind = KINDS.get(name, "str") if argument is None else argument.kind
    wanted = _OWN_KINDS.get(name, _IS_KIND.get(kind, ()))
    if value is None or not wanted:
        return True
    if isinstance(value, bool) and bool not in wanted:
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if isinstance(value, (list, tuple)) and kind == "list":
        return all(isinstance(item, str) for item in value)
    return isinstance(value, wanted)

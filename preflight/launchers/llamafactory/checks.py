"""What LLaMA-Factory refuses beside the arguments of one field, as far as the arguments and the launcher tell.

Source: get_train_args and _verify_model_args in hparams/parser.py, __post_init__ of hparams/*_args.py,
configure_quantization in model/model_utils/quantization.py, of LLaMA-Factory 0.9.5.
"""

from __future__ import annotations

from collections.abc import Callable

from preflight.launchers.framework_keys import FrameworkKeys
from preflight.launchers.llamafactory.engine import EngineFacts
from preflight.launchers.not_read import DOES_NOT_TRAIN
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.setting import Setting

BLOCKWISE = ("use_galore", "use_apollo", "use_badam")
LORA_ONLY = ("loraplus_lr_ratio", "use_rslora", "use_dora", "pissa_init")
NO_SHARDS = ("hqq", "eetq")
"""quantization_method that works without ZeRO-3 and FSDP only."""


def check_llamafactory(keys: FrameworkKeys, engine: EngineFacts) -> None:
    """Say everything that the parser refuses."""
    for check in CHECKS:
        check(keys, engine)


def _refuse(keys: FrameworkKeys, name: str, message: str, fix: str = "") -> None:
    setting = keys.get(name)
    assert setting is not None
    keys.refuse(message, setting, fix)


def _choices(keys: FrameworkKeys, engine: EngineFacts) -> None:
    # A file's values go to the dataclasses as they are: only TrainingArguments looks at its own.
    for name, argument in argument_table(None).arguments.items():
        setting = keys.get(name)
        if argument.choices is None or setting is None or setting.value in argument.choices:
            continue
        if name != "optim" and not isinstance(setting.value, bool):
            wanted = ", ".join(str(choice) for choice in argument.choices)
            keys.refuse(f"{name} must be one of {wanted}, not {setting.value!r}", setting)


def _data(keys: FrameworkKeys, engine: EngineFacts) -> None:
    first = next(iter(keys.given.values()))
    if "model_name_or_path" not in keys.given:
        keys.refuse("model_name_or_path is missing", first)
    if not keys.is_on("do_train"):
        at = keys.get("do_train") or first
        nothing = "nothing is trained: do_train is not true"
        keys.note("PF140", nothing, at, "do_train: true", unpriced=DOES_NOT_TRAIN)
    elif "dataset" not in keys.given:
        keys.refuse("dataset is missing", first)
    size = keys.value("val_size", 0)
    held_out = isinstance(size, (int, float)) and size > 0
    if held_out and keys.get("eval_dataset") is not None:
        _refuse(keys, "val_size", "val_size and eval_dataset are both given", "remove val_size")
    strategy = keys.value("eval_strategy", "no")
    evaluates = keys.is_on("do_eval") or strategy not in ("no", False)
    if evaluates and not held_out and keys.get("eval_dataset") is None:
        at = keys.get("eval_strategy") or keys.get("do_eval") or first
        keys.refuse("evaluation without eval_dataset and val_size", at, "val_size: 0.1")
    if keys.is_on("streaming") and keys.value("max_steps", -1) == -1:
        _refuse(keys, "streaming", "streaming needs max_steps", "max_steps: 1000")


def _stage(keys: FrameworkKeys, engine: EngineFacts) -> None:
    stage = keys.value("stage", "sft")
    if stage != "sft":
        for name in ("neat_packing", "predict_with_generate", "train_on_prompt", "mask_history"):
            if keys.is_on(name):
                _refuse(keys, name, f"{name} works in the sft stage only")
    if stage == "ppo" and keys.get("reward_model") is None:
        _refuse(keys, "stage", "stage ppo needs reward_model")
    rows = keys.settings.get("micro_batch_size")
    attention = keys.settings.get("attention")
    is_flash = attention is not None and attention.value == "flash_attention_2"
    if keys.is_on("neat_packing") and is_flash and rows is not None and rows.value > 1:
        # collator.py asserts it
        _refuse(
            keys,
            "neat_packing",
            f"neat_packing with flash attention takes one row per step, not {rows.value}",
            "per_device_train_batch_size: 1, and gradient_accumulation_steps in its place",
        )


def one_process_only(keys: FrameworkKeys, is_zero3: bool) -> tuple[str, str] | None:
    """Return the key with which several ranks are refused, and what to say; None where none is (parser.py:505, 0.9.5)."""
    for name in ("galore", "apollo"):
        if keys.is_on(f"use_{name}") and keys.is_on(f"{name}_layerwise"):
            return f"{name}_layerwise", f"{name}_layerwise works in one process only"
    if not keys.is_on("use_badam"):
        return None
    if keys.value("badam_mode", "layer") == "ratio":
        return "badam_mode", "badam_mode: ratio works in one process only"
    return None if is_zero3 else ("use_badam", "use_badam on several ranks needs ZeRO-3")


def _methods(keys: FrameworkKeys, engine: EngineFacts) -> None:
    kind = keys.value("finetuning_type", "lora")
    on = [name for name in BLOCKWISE if keys.is_on(name)]
    if on and kind == "lora":
        _refuse(keys, on[0], f"{on[0]} does not work with LoRA", "finetuning_type: full")
    if len(on) > 1:
        _refuse(keys, on[1], f"{on[0]} and {on[1]} are both on", "remove one")
    for name in on:
        layers = f"{name.removeprefix('use_')}_layerwise"
        steps = keys.count("gradient_accumulation_steps")
        if keys.is_on(layers) and steps is not None and steps.value != 1:
            message = f"{layers} steps in backward and cannot accumulate gradients"
            _refuse(keys, layers, message, "gradient_accumulation_steps: 1")
        if name != "use_badam" and (engine.zero_stage is not None or keys.get("deepspeed")):
            _refuse(keys, name, f"{name} does not work with DeepSpeed")
    alone = one_process_only(keys, engine.is_zero3)
    if engine.is_distributed and alone is not None:
        _refuse(keys, *alone)
    if kind != "lora":
        for name in LORA_ONLY:
            setting = keys.get(name)
            if setting is not None and setting.value is not False:
                keys.refuse(f"{name} works with LoRA only", setting, "finetuning_type: lora")
        if keys.get("adapter_name_or_path") is not None:
            _refuse(keys, "adapter_name_or_path", "adapter_name_or_path works with LoRA only")
    if kind == "full" and keys.is_on("use_llama_pro"):
        _refuse(keys, "use_llama_pro", "use_llama_pro works with freeze and LoRA only")


def _shards(keys: FrameworkKeys, engine: EngineFacts) -> None:
    if engine.is_zero3:
        for name in ("pure_bf16", "use_unsloth", "use_kt", "pissa_init", "predict_with_generate"):
            if keys.is_on(name):
                _refuse(keys, name, f"{name} does not work with ZeRO-3")
    bits = keys.count("quantization_bit")
    if bits is None:
        return
    method = str(keys.value("quantization_method", "bnb"))
    if engine.is_zero3 or engine.fsdp_version is not None:
        if method in NO_SHARDS:
            _refuse(keys, "quantization_method", f"{method} does not work with ZeRO-3 and FSDP")
        elif bits.value != 4:
            _refuse(
                keys,
                "quantization_bit",
                "only 4 bits work with ZeRO-3 and FSDP",
                "quantization_bit: 4",
            )
    for name in ("pissa_init", "resize_vocab", "fp8"):
        if keys.is_on(name):
            _refuse(keys, name, f"{name} does not work on a quantized base", f"{name}: false")
    if keys.value("quantization_device_map") == "auto":
        _refuse(keys, "quantization_device_map", "quantization_device_map is for inference")


def _ranks(keys: FrameworkKeys, engine: EngineFacts) -> None:
    """Refuse a single process where the parser wants ranks (ParallelMode); its own command starts one per GPU."""
    if engine.is_distributed or engine.num_devices is None or keys.is_on("use_kt"):
        return
    deepspeed = keys.get("deepspeed")
    fix = "FORCE_TORCHRUN=1 in front of llamafactory-cli"
    if engine.num_devices > 1:
        at: Setting = keys.get("model_name_or_path") or next(iter(keys.given.values()))
        keys.refuse(f"one process sees {engine.num_devices} GPUs", at, fix)
    elif deepspeed is not None:
        keys.refuse("DeepSpeed needs a launcher, even for one rank", deepspeed, fix)


CHECKS: tuple[Callable[[FrameworkKeys, EngineFacts], None], ...] = (
    _choices,
    _data,
    _stage,
    _methods,
    _shards,
    _ranks,
)

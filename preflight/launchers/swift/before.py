"""The arguments that ms-swift had before 3.0, said as those of 3.0: what was renamed, and the defaults that were others.

Source: swift/llm/utils/argument.py (SftArguments), llm/tuner.py and llm/sft.py of 2.0.5 and 2.6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from preflight.launchers.framework_keys import NotModelled
from preflight.launchers.swift.table import ModelBefore, model_before, newest_before
from preflight.launchers.swift.words import SwiftWords
from preflight.setting import Place, Setting

RENAMED = {
    "batch_size": "per_device_train_batch_size",
    "bnb_4bit_comp_dtype": "bnb_4bit_compute_dtype",
    "custom_train_dataset_path": "dataset",
    "custom_val_dataset_path": "val_dataset",
    "dataset_test_ratio": "split_dataset_ratio",
    "deepspeed_config_path": "deepspeed",
    "dtype": "torch_dtype",
    "eval_batch_size": "per_device_eval_batch_size",
    "evaluation_strategy": "eval_strategy",
    "lora_bias_trainable": "lora_bias",
    "lora_dropout_p": "lora_dropout",
    "lora_modules_to_save": "modules_to_save",
    "lora_target_modules": "target_modules",
    "lora_target_regex": "target_regex",
    "loss_name": "loss_type",
    "model_id_or_path": "model",
    "neftune_alpha": "neftune_noise_alpha",
    "quantization_bit": "quant_bits",
    "sft_type": "train_type",
    "use_flash_attn": "attn_impl",
    "vit_use_gc": "vit_gradient_checkpointing",
}
"""Argument before 3.0 -> what 3.0 calls it."""
_PRESETS = {
    "default-zero2": "zero2",
    "default-zero3": "zero3",
    "zero2-offload": "zero2_offload",
    "zero3-offload": "zero3_offload",
}
_MODULES = {"ALL": "all-linear", "EMBEDDING": "all-embedding", "LN": "all-norm"}
_OF_THE_MODEL = ("DEFAULT", "AUTO")
"""Words for the modules that LoRA adapts by default, which the model's kind decides."""
_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "attn_impl": lambda value: None if value is None else "flash_attn" if value else "eager",
    "bnb_4bit_compute_dtype": lambda value: None if value == "AUTO" else value,
    "deepspeed": lambda value: _PRESETS.get(str(value), value),
    "lora_dtype": lambda value: None if value == "AUTO" else value,
    "max_length": lambda value: None if value == -1 else value,
    "quant_bits": lambda value: value or None,
    "torch_dtype": lambda value: None if value == "AUTO" else value,
}
"""Argument of 3.0 -> its value for one before; None leaves it out."""
DEFAULTS = {
    "max_length": 2048,
    "optim": "adamw_torch",
    "per_device_train_batch_size": 1,
    "split_dataset_ratio": 0.01,
}
"""Argument of 3.0 -> its default before, where that is another one."""
NOT_MODELLED = {
    "tuner_backend": NotModelled(
        "an adapter of another package is estimated as PEFT's",
        "another package's adapter",
        "either",
    ),
    "train_backend": NotModelled(
        "Megatron's trainer is estimated as transformers'", "Megatron-Core", "either"
    ),
    "use_loss_scale": NotModelled(
        "a loss that weighs tokens is estimated as the model's own",
        "a loss that weighs tokens",
        "more",
    ),
}
_USUAL = {"tuner_backend": "peft", "train_backend": "transformers", "use_loss_scale": False}
_MODEL_TARGETS = NotModelled(
    "the modules that ms-swift adapts by default are not known of this model: all linear layers are estimated",
    "an adapter on some layers",
    "less",
)
_SEES = NotModelled(
    "what ms-swift before 3.0 trains of a model that sees or hears is not known",
    "parts of a model that sees",
    "either",
)


def of_before(words: SwiftWords) -> tuple[dict[str, Setting], list[tuple[NotModelled, Setting]]]:
    """Return the arguments in the words of 3.0, and what of them no plan field holds."""
    given: dict[str, Setting] = {}
    for name, setting in words.given.items():
        new = RENAMED.get(name, name)
        value = _VALUES[new](setting.value) if new in _VALUES else setting.value
        if value is not None and name != "model_type":
            given[new] = Setting(value, setting.place)
    label = f"ms-swift {newest_before()}"
    for name, default in DEFAULTS.items():
        if name not in words.given and not _is_said(name, words):
            given[name] = Setting(default, Place("default", "", label))
    if "predict_with_generate" not in given:
        given.setdefault("per_device_eval_batch_size", given["per_device_train_batch_size"])
    if "quant_bits" in given:
        given.setdefault("quant_method", Setting("bnb", given["quant_bits"].place))
    left_out = [*_model(given, words, label), *_not_modelled(given)]
    return given, left_out


def _is_said(name: str, words: SwiftWords) -> bool:
    return any(new == name and old in words.given for old, new in RENAMED.items())


def _model(
    given: dict[str, Setting], words: SwiftWords, label: str
) -> Iterator[tuple[NotModelled, Setting]]:
    """Put in what the name of a model decides: its id, its dtype, whether it is recomputed, and what LoRA adapts."""
    kind, said = words.given.get("model_type"), given.get("model")
    at = kind or said
    if at is None:
        return
    identifier = "" if said is None else str(said.value)
    known = model_before("" if kind is None else str(kind.value), identifier)
    by_default = Place("default", "", label)
    if known is not None and kind is not None:
        given.setdefault("model", Setting(known.identifier, kind.place))
    is_whole = given.get("train_type", at).value == "full"
    dtype = known.dtype if known is not None and known.dtype else "bfloat16"
    given.setdefault("torch_dtype", Setting(dtype, by_default))
    if is_whole and given["torch_dtype"].value in ("fp16", "float16"):
        given["torch_dtype"] = Setting("float32", given["torch_dtype"].place)
        given["fp16"] = Setting(True, given["torch_dtype"].place)  # select_dtype
    if known is not None and not known.checkpoints:
        given["gradient_checkpointing"] = Setting(False, by_default)
    if known is not None and known.targets is None:
        yield _SEES, at
    if not is_whole:
        yield from _targets(given, known, at, by_default)


def _targets(
    given: dict[str, Setting], known: ModelBefore | None, at: Setting, by_default: Place
) -> Iterator[tuple[NotModelled, Setting]]:
    setting = given.get("target_modules", Setting(["DEFAULT"], by_default))
    said = setting.value if isinstance(setting.value, list) else [setting.value]
    words: list[str] = [part for word in said for part in str(word).split(",")]
    modules: list[str] = []
    for word in words:
        if word not in _OF_THE_MODEL:
            modules.append(_MODULES.get(word, word))
        elif known is not None and known.targets is not None:
            modules += known.targets
        else:
            modules.append("all-linear")
            if known is None:
                yield _MODEL_TARGETS, at
    given["target_modules"] = Setting(list(dict.fromkeys(modules)), setting.place)
    saved = given.get("modules_to_save")
    if saved is not None and isinstance(saved.value, list):
        named = [_MODULES.get(str(word), str(word)) for word in saved.value]
        given["modules_to_save"] = Setting(named, saved.place)


def _not_modelled(given: Mapping[str, Setting]) -> Iterator[tuple[NotModelled, Setting]]:
    for name, left_out in NOT_MODELLED.items():
        setting = given.get(name)
        if setting is not None and setting.value != _USUAL[name]:
            yield left_out, setting

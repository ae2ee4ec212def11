"""ms-swift's arguments of what is trained as plan fields: tuner, quantized base, parts of a model that sees, attention.

Source: ms-swift 4.6.0, arguments/tuner_args.py, arguments/base_args/{model,quant}_args.py, pipelines/train/tuner.py and
tuners/peft.py; llm/argument and llm/train of 3.x have the same but where a release is named here.
"""

from __future__ import annotations

from typing import Any

from preflight.launch import Adapter, BaseQuantization, Vision
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.scripts.arguments.trainer_spellings import DTYPES, attention_of
from preflight.setting import Setting
from preflight.unpriced_names import FROZEN
from preflight.versions.ms_swift import KEEPS_LORA_DTYPE

ALL_LINEAR = "all-linear"
ALIKE = ("lora", "longlora")
"""Tuners that are LoRA to memory."""
FREEZES = {
    "freeze_vit": ("tower", True),
    "freeze_aligner": ("projector", True),
    "freeze_llm": ("language_model", False),
}
"""Argument -> the part of a model that it freezes, and whether it does so by default (arguments/tuner_args.py)."""
FROZEN_PARTS = (
    "freeze_parameters",
    "freeze_parameters_regex",
    "freeze_parameters_ratio",
    "lisa_activated_layers",
)


def tuner_of(keys: FrameworkKeys) -> Setting | None:
    """Return what is trained, by its name of 4.0 on or of 3.x; None is LoRA."""
    return keys.get("train_type", "tuner_type")


def read_dtype(keys: FrameworkKeys) -> str | None:
    """Record the dtype that weights are loaded in and the mixed precision; return the first, None where the config has it.

    Every trainable weight keeps the dtype that it is loaded in: nothing is cast to fp32 but an adapter in fp16
    (TunerMixin.prepare_model, 3.0.3 to 4.6.0), and PEFT does that itself.
    """
    setting = keys.get("torch_dtype")
    dtype = None if setting is None else DTYPES.get(str(setting.value))
    if dtype is not None and setting is not None:
        keys.put("load_dtype", dtype, setting)
    elif not keys.is_unknown("torch_dtype"):
        keys.assume("load_dtype", "auto", "no torch_dtype: the checkpoint's own dtype")
    _precision(keys, dtype, setting)
    return dtype


def _precision(keys: FrameworkKeys, dtype: str | None, said: Setting | None) -> None:
    """Record mixed precision: bf16 for weights in bf16, else fp16 (_init_mixed_precision)."""
    given = {name: keys.flag(name) for name in ("bf16", "fp16")}
    default = "bf16" if dtype in ("bf16", None) else "fp16"
    on = [name for name, flag in given.items() if (flag.value if flag else name == default)]
    for name, flag in given.items():
        keys.argument(name, name in on, flag or said)
    if len(on) == 2:
        flag = next(flag for flag in given.values() if flag is not None and flag.value)
        other = "--bf16 false" if flag is given["fp16"] else "--fp16 false"
        keys.refuse("bf16 and fp16 are both on; the trainer takes one of them", flag, other)
        return
    word = on[0] if on else "no"
    at = given.get(word) or given["bf16"] or given["fp16"] or said
    keys.decide("mixed_precision", word, at, reason="that of a checkpoint in bf16")


def read_quantization(keys: FrameworkKeys, dtype: str | None) -> None:
    """Record the quantized base; without `quant_method` there is none, whatever `quant_bits` says."""
    method, bits = keys.get("quant_method"), keys.get("quant_bits")
    if method is None:
        if bits is not None:
            message = "quant_bits has no effect without quant_method: the base is not quantized"
            keys.note("PF140", message, bits, "--quant_method bnb")
        return
    if method.value in ("awq", "gptq", "gptq_v2"):
        return  # of a checkpoint that is packed already
    if method.value != "bnb":
        message = f"a base in {method.value} is estimated as it is loaded"
        keys.leave_out(NotModelled(message, f"weights in {method.value}", "less"), method)
        return
    if bits is None or str(bits.value) not in ("4", "8"):
        at = bits or method
        keys.refuse("quant_method bnb wants quant_bits 4 or 8", at, "--quant_bits 4")
        return
    details = [method]
    if str(bits.value) == "8":
        quantization = BaseQuantization("int8", upcast_unquantized_to_fp32="none")
    else:
        double, scheme = keys.flag("bnb_4bit_use_double_quant"), keys.get("bnb_4bit_quant_type")
        compute, storage = keys.get("bnb_4bit_compute_dtype"), keys.get("bnb_4bit_quant_storage")
        quantization = BaseQuantization(
            scheme=str(scheme.value) if scheme is not None else "nf4",
            double_quant=double is None or bool(double.value),
            compute_dtype=DTYPES.get(str(compute.value)) if compute else _computes_in(dtype),
            storage_dtype=DTYPES.get(str(storage.value)) if storage else None,
            upcast_unquantized_to_fp32="none",  # nothing prepares a quantized base (3.0.3 to 4.6.0)
        )
        details += [s for s in (double, scheme, compute, storage) if s is not None]
    keys.put("base_quantization", quantization, bits, *details)
    if (tuner := tuner_of(keys)) is not None and tuner.value == "full":
        keys.refuse("a quantized base cannot be trained whole", tuner, "--tuner_type lora")


def _computes_in(dtype: str | None) -> str:
    """Return the dtype of products where nobody says it (QuantizeArguments.__post_init__)."""
    return "fp32" if dtype in ("fp16", "fp32") else "bf16"


def read_trained(keys: FrameworkKeys) -> None:
    """Record the adapter, or which parts of a whole training stay frozen."""
    tuner = tuner_of(keys)
    kind = "lora" if tuner is None else str(tuner.value)
    if kind == "full":
        for name in FROZEN_PARTS:
            setting = keys.get(name)
            if setting is not None and setting.value:
                message = f"{name} trains a part of the weights: the estimate trains all of them"
                keys.leave_out(NotModelled(message, FROZEN, "less"), setting)
        return
    if kind not in ALIKE and tuner is not None:
        message = f"the tuner {kind} is estimated as LoRA"
        keys.leave_out(NotModelled(message, f"the tuner {kind}", "either"), tuner)
    if kind == "longlora" and tuner is not None:
        message = "LongLoRA's shifted attention is estimated as whole attention"
        keys.leave_out(NotModelled(message, "shifted sparse attention", "less"), tuner)
    rank = keys.count("lora_rank")
    alpha, dropout = keys.number("lora_alpha"), keys.number("lora_dropout")
    dora, dtype = keys.flag("use_dora"), keys.get("lora_dtype")
    keeps = KEEPS_LORA_DTYPE.holds_in(keys.library.versions)
    targets, of_targets = _targets(keys)
    saved, of_saved = _saved(keys)
    adapter = Adapter(
        kind="dora" if dora is not None and dora.value else "lora",
        rank=rank.value if rank is not None else 8,
        alpha=int(alpha.value) if alpha is not None else 32,
        dropout=float(dropout.value) if dropout is not None else 0.05,
        targets=targets,
        dtype=DTYPES.get(str(dtype.value)) if dtype is not None and keeps else None,
        modules_to_save=saved,
    )
    details = [s for s in (rank, alpha, dropout, dora, dtype, *of_targets, *of_saved) if s]
    if tuner is not None:
        keys.put("adapter", adapter, tuner, *details)
    else:
        keys.assume("adapter", adapter, "LoRA unless tuner_type says otherwise")
        keys.places["adapter"] = tuple(setting.place for setting in details)
    bias = keys.get("lora_bias")
    if bias is not None and bias.value == "all":
        keys.leave_out(NotModelled("trained biases are not counted", "biases", "more"), bias)
    if keys.get("target_parameters") is not None:
        message = "LoRA on whole parameters (target_parameters) is not counted"
        at = keys.given["target_parameters"]
        keys.leave_out(NotModelled(message, "an adapter on experts", "more"), at)


def _targets(keys: FrameworkKeys) -> tuple[tuple[str, ...] | str, tuple[Setting, ...]]:
    pattern = keys.get("target_regex")
    if pattern is not None:
        message = "an adapter on the modules of target_regex is estimated on all linear layers"
        keys.leave_out(NotModelled(message, "an adapter on some layers", "less"), pattern)
        return ALL_LINEAR, (pattern,)
    setting = keys.get("target_modules")
    names = _names(setting)
    if setting is None or names == (ALL_LINEAR,):
        return ALL_LINEAR, () if setting is None else (setting,)
    if ALL_LINEAR in names or "all-embedding" in names:
        message = "an adapter on embeddings and others beside all linear layers is not counted"
        keys.leave_out(NotModelled(message, "an adapter on more modules", "more"), setting)
        return ALL_LINEAR, (setting,)
    return names, (setting,)


def _saved(keys: FrameworkKeys) -> tuple[tuple[str, ...] | None, tuple[Setting, ...]]:
    setting = keys.get("modules_to_save")
    names = _names(setting)
    if setting is None or not names:
        return None, ()
    if {"all-embedding", "all-norm"} & set(names):
        message = "embeddings and norms that are trained whole beside the adapter are not counted"
        keys.leave_out(NotModelled(message, "modules trained whole", "more"), setting)
        names = tuple(name for name in names if not name.startswith("all-"))
    return names or None, (setting,)


def _names(setting: Setting | None) -> tuple[str, ...]:
    if setting is None:
        return ()
    value: Any = setting.value
    words = value if isinstance(value, list) else [value]
    return tuple(str(word) for word in words)


def read_frozen(keys: FrameworkKeys) -> None:
    """Record which parts of a model that sees are left as they are: an adapter on all linear layers leaves them out too."""
    given = {name: keys.flag(name) for name in FREEZES}
    frozen = tuple(
        part
        for name, (part, by_default) in FREEZES.items()
        if (by_default if (flag := given[name]) is None else flag.value)
    )
    said = [flag for flag in given.values() if flag is not None]
    keys.decide("vision", Vision(frozen=frozen), *said, reason="frozen unless freeze_vit says no")


def read_attention(keys: FrameworkKeys) -> str | None:
    """Record the attention and return its name; None is transformers' own choice."""
    setting = keys.get("attn_impl")
    if setting is None:
        return None
    name = attention_of(setting.value)
    if name is None and "flash" in str(setting.value):
        name = "flash_attention_2"
    if name is not None:
        keys.put("attention", name, setting)
        return name
    message = f"attention by {setting.value} is estimated as transformers' default"
    keys.leave_out(NotModelled(message, f"attention by {setting.value}", "either"), setting)
    return None

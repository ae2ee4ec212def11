"""axolotl's keys of adapter and quantized base as plan fields.

Source: axolotl 0.19.0, utils/schemas/peft.py, _build_peft_lora_config in loaders/adapter.py,
_set_quantization_config and _prepare_model_for_quantization in loaders/model.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from preflight.launch import Adapter, BaseQuantization, Vision
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.lazy_pattern import lazy_pattern
from preflight.scripts.arguments.trainer_spellings import DTYPES
from preflight.setting import Setting
from preflight.unpriced_names import PACKED_EXPERTS

EXPERTS = "quantize_moe_experts"
CHARACTERS = lazy_pattern(r"\[(\w{1,20})\]")
CHOICES = lazy_pattern(
    r"(?<!\w)([A-Za-z]\w{0,40})?\((?:\?:)?(\w{1,40}(?:\|\w{1,40}){1,40})\)(\w{0,40})(?!\w|\\?\.)"
)
"""The names of a group that ends a module's name: none of what a dot follows."""
INT8_EXPERTS = NotModelled(
    "experts are estimated as they are stored in the checkpoint: int8 ones are unpacked to fp32",
    PACKED_EXPERTS,
    "either",
)


def read_adapter(keys: FrameworkKeys, dtype: str) -> None:
    """Record the adapter and the quantized base; `dtype` is what the model is loaded in."""
    _quantization(keys, dtype)
    _adapter(keys)


def _quantization(keys: FrameworkKeys, dtype: str) -> None:
    four, eight = keys.flag("load_in_4bit"), keys.flag("load_in_8bit")
    kind = keys.get("adapter")
    adapter = kind.value if kind is not None else None
    is_four = four is not None and four.value is True
    is_eight = eight is not None and eight.value is True
    if kind is None:
        asked = four if is_four else eight if is_eight else None
        if asked is not None and not keys.is_unknown("adapter"):
            keys.refuse(
                f"{asked.place.key.lstrip('-')} without an adapter: axolotl does not train a quantized model whole",
                asked,
                "adapter: qlora with load_in_4bit, adapter: lora with load_in_8bit, or neither",
            )
    elif adapter == "qlora" and is_eight and eight is not None:
        keys.refuse("adapter: qlora cannot load in 8 bits", eight, "load_in_4bit: true")
    elif adapter == "qlora" and four is None and not keys.is_unknown("load_in_4bit"):
        keys.refuse("adapter: qlora needs load_in_4bit: true", kind, "load_in_4bit: true")
    elif adapter == "qlora" and four is not None and not is_four:
        keys.refuse("adapter: qlora needs load_in_4bit: true", four, "load_in_4bit: true")
    elif adapter == "qlora" and four is not None:
        _four_bits(keys, four, dtype)
    elif adapter == "lora" and is_eight and eight is not None:
        kept = BaseQuantization("int8", upcast_unquantized_to_fp32="none")
        keys.put("base_quantization", kept, eight)
        keys.leave_out_given({EXPERTS: INT8_EXPERTS})
    elif adapter == "lora" and is_four and four is not None:
        keys.note(
            "PF143",
            "load_in_4bit has no effect with adapter: lora: the base is loaded in 16 bits",
            four,
            "adapter: qlora",
        )


def _four_bits(keys: FrameworkKeys, four: Setting, dtype: str) -> None:
    more, experts = keys.get("bnb_config_kwargs"), keys.flag(EXPERTS)
    options = more.value if more is not None and isinstance(more.value, Mapping) else {}
    storage = str(options.get("bnb_4bit_quant_storage", "bfloat16")).removeprefix("torch.")
    compute = str(options.get("bnb_4bit_compute_dtype", dtype)).removeprefix("torch.")
    quantization = BaseQuantization(
        scheme=str(options.get("bnb_4bit_quant_type", "nf4")),
        double_quant=bool(options.get("bnb_4bit_use_double_quant", True)),
        compute_dtype=DTYPES.get(compute, dtype),
        storage_dtype=DTYPES.get(storage),
        # Norms and embeddings are converted back to the load dtype behind PEFT's preparation.
        upcast_unquantized_to_fp32="none",
        experts=experts is not None and experts.value is True,
    )
    given = [setting for setting in (more, experts) if setting is not None]
    keys.put("base_quantization", quantization, four, *given)


def _adapter(keys: FrameworkKeys) -> None:
    setting = keys.get("adapter")
    if setting is None or setting.value is False:
        return
    if setting.value not in ("lora", "qlora"):
        message = f"adapter {setting.value} is estimated as LoRA of the same rank"
        keys.leave_out(NotModelled(message, f"a {setting.value} adapter", "either"), setting)
    rank, alpha = keys.count("lora_r"), keys.count("lora_alpha")
    resumed = keys.get("lora_model_dir")
    if resumed is not None:
        keys.note(
            "PF143",
            "the adapter of lora_model_dir is estimated with the rank and targets that stand here",
            resumed,
        )
    elif setting.value in ("lora", "qlora"):
        _check_complete(keys, setting)
    dropout, autocast = keys.get("lora_dropout"), keys.flag("peft_autocast_adapter_dtype")
    linear, named = keys.flag("lora_target_linear"), keys.get("lora_target_modules")
    saved = keys.get("lora_modules_to_save")
    keeps = autocast is not None and autocast.value is False
    to_save = saved.value if saved is not None and isinstance(saved.value, list) else None
    adapter = Adapter(
        kind="dora" if keys.is_on("peft_use_dora") else "lora",
        rank=rank.value if rank is not None else Adapter.rank,
        alpha=alpha.value if alpha is not None else None,
        dropout=float(dropout.value)
        if dropout is not None and isinstance(dropout.value, (int, float))
        else 0.0,
        targets=_targets(keys, linear, named),
        dtype=str(keys.settings["load_dtype"].value) if keeps else None,
        modules_to_save=tuple(str(item) for item in to_save) if to_save else None,
    )
    given = [s for s in (rank, alpha, dropout, linear, named, saved, autocast) if s is not None]
    keys.put("adapter", adapter, setting, *given)


def _check_complete(keys: FrameworkKeys, setting: Setting) -> None:
    """Refuse what PEFT stops on: axolotl hands it None, where PEFT's own default would do."""
    for name, example in (("lora_r", 16), ("lora_alpha", 32)):
        if keys.get(name) is None and not keys.is_unknown(name):
            keys.refuse(f"an adapter without {name}", setting, f"{name}: {example}")
    targets = ("lora_target_linear", "lora_target_modules", "lora_target_parameters")
    if not any(keys.value(name) or keys.is_unknown(name) for name in targets):
        keys.refuse("an adapter without target modules", setting, "lora_target_linear: true")


def _targets(
    keys: FrameworkKeys, linear: Setting | None, named: Setting | None
) -> tuple[str, ...] | str | None:
    if linear is not None and linear.value:
        return "all-linear"
    if named is None:
        return None
    if isinstance(named.value, list):
        return tuple(str(item) for item in named.value)
    pattern = str(named.value)
    if pattern == "all-linear":
        return pattern
    names = pattern_names(pattern)
    if "language_model" in pattern:
        keys.put("vision", Vision(frozen=("tower", "projector")), named)
    read = ", ".join(names) if names else "PEFT's own choice"
    keys.note("PF143", f"lora_target_modules is a pattern; it is read as {read}", named, "", "info")
    return names or None


def pattern_names(pattern: str) -> tuple[str, ...]:
    """Return the module names that a pattern for whole names ends with: `(q|k)_proj` and `fc[12]` are two each.

    The pattern itself is never run: somebody's pattern may take for ever.
    """
    if pattern.isidentifier():
        return (pattern,)
    text = CHARACTERS.sub(lambda chosen: f"({'|'.join(chosen[1])})", pattern)
    names = [
        f"{before}{part}{after}"
        for before, group, after in CHOICES.findall(text)
        for part in group.split("|")
        if part
    ]
    names += re.findall(r"\b[A-Za-z]\w{0,40}_proj\b", text)
    return tuple(dict.fromkeys(names))

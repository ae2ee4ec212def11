"""A live module in plan values: its config, the dtypes of its parameters, adapter and quantization. torch is not imported."""

from __future__ import annotations

from collections import Counter
from typing import Any

from preflight.formulas.checkpoint import bits_and_bytes, dtype_name
from preflight.launch import Adapter, BaseQuantization, Origin

WRAPPERS = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "DeepSpeedEngine": "module",
    "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "OptimizedModule": "_orig_mod",
}
"""Class of a wrapper -> the attribute with the module that it wraps."""
MODEL = Origin("the live model")


def unwrapped(model: Any) -> Any:
    """Return the module inside DDP, FSDP1, DeepSpeed and torch.compile; adapters stay."""
    while type(model).__name__ in WRAPPERS:
        model = getattr(model, WRAPPERS[type(model).__name__])
    return model


def base_of(model: Any) -> Any:
    """Return the model under PEFT's wrapper, else the model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def model_fields(model: Any) -> dict[str, Any]:
    """Return the plan fields that a live model decides; a config only where it is transformers'."""
    whole = unwrapped(model)
    base = base_of(whole)
    config = getattr(base, "config", None)
    fields: dict[str, Any] = {"model": type(base).__name__}
    if config is not None and hasattr(config, "to_dict"):
        fields["model"] = getattr(config, "name_or_path", "") or type(base).__name__
        fields["model_config"] = {**config.to_dict(), "architectures": [type(base).__name__]}
        attention = getattr(config, "_attn_implementation", None)
        if attention in ("eager", "sdpa", "flash_attention_2", "flash_attention_3"):
            fields["attention"] = attention
    fields["load_dtype"] = _load_dtype(whole)
    adapter = _adapter(whole)
    if adapter is not None:
        fields["adapter"] = adapter
    quantization = _quantization(config)
    if quantization is not None:
        fields["base_quantization"] = quantization
    # transformers 5 calls it is_activation_checkpointing, and warns of the name before.
    new = getattr(type(base), "is_activation_checkpointing", None) is not None
    if getattr(base, f"is_{'activation' if new else 'gradient'}_checkpointing", False):
        fields["activation_checkpointing"] = "full"
    return fields


def num_elements(parameter: Any) -> int:
    """Return the elements of a whole parameter: ZeRO-3 leaves none in place, 4-bit packs two in a byte."""
    if hasattr(parameter, "ds_numel"):
        return int(parameter.ds_numel)
    state = getattr(parameter, "quant_state", None)
    shape = getattr(state, "shape", None)
    if shape is not None:
        count = 1
        for size in shape:
            count *= int(size)
        return count
    return int(parameter.numel())


def _load_dtype(model: Any) -> str | None:
    """Return the dtype that most elements have, of the frozen ones where an adapter trains."""
    elements: Counter[str] = Counter()
    is_adapted = bool(getattr(model, "peft_config", None))
    for _, parameter in model.named_parameters():
        name = dtype_name(parameter.dtype)
        if name is not None and not (is_adapted and parameter.requires_grad):
            elements[name] += num_elements(parameter)
    return elements.most_common(1)[0][0] if elements else None


def _adapter(model: Any) -> Adapter | None:
    configs = getattr(model, "peft_config", None)
    if not configs:
        return None
    config = next(iter(configs.values()))
    kind = getattr(config.peft_type, "value", str(config.peft_type)).lower()
    targets = getattr(config, "target_modules", None)
    saved = getattr(config, "modules_to_save", None)
    dtypes = {dtype_name(p.dtype) for n, p in model.named_parameters() if "lora_" in n}
    return Adapter(
        kind="dora" if getattr(config, "use_dora", False) else kind,
        rank=int(getattr(config, "r", 8)),
        alpha=getattr(config, "lora_alpha", None),
        dropout=float(getattr(config, "lora_dropout", 0.0)),
        targets=targets if isinstance(targets, str) or targets is None else tuple(sorted(targets)),
        dtype=dtypes.pop() if len(dtypes) == 1 else None,
        modules_to_save=tuple(saved) if saved else None,
    )


def _quantization(config: Any) -> BaseQuantization | None:
    given = getattr(config, "quantization_config", None)
    if given is None:
        return None
    return bits_and_bytes(given if isinstance(given, dict) else given.to_dict())

"""The adapter, the quantized base and the dtype of a script that makes its model itself, as edits of it that a person makes."""

from __future__ import annotations

from preflight.formats.edits import CannotEdit
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.writers.draft import LaunchDraft

TORCH_DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}


def tell_model_edits(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Tell what loads the model packed or in another dtype, and what puts an adapter on it."""
    loading: dict[str, str] = {}
    if before.base_quantization != after.base_quantization:
        if before.base_quantization is not None or after.base_quantization is None:
            raise CannotEdit("only an unquantized base is quantized")
        loading["quantization_config"] = _quantization(after.base_quantization)
    if before.load_dtype != after.load_dtype and after.load_dtype is not None:
        loading["dtype"] = TORCH_DTYPES[after.load_dtype]
    facts = before.script_facts
    if loading and facts.model_at is not None:
        for name, value in loading.items():
            draft.edit_script(facts.model_at, f"{name}={value}")
    elif loading and before.trainer == "trl":
        held = ", ".join(f'"{name}": {value}' for name, value in loading.items())
        draft.edit_script(facts.arguments_at, f"model_init_kwargs={{{held}}}")
    elif loading:
        raise CannotEdit("where the model is loaded was not found")
    if before.adapter == after.adapter:
        return
    if before.adapter is not None or after.adapter is None:
        raise CannotEdit("only a new adapter is told")
    config = _lora(after.adapter)
    if before.trainer == "trl":
        draft.edit_script(facts.arguments_at, f"peft_config={config}", "trainer")
    else:
        draft.edit_script(facts.model_at, f"model = get_peft_model(model, {config})", "after")


def _quantization(base: BaseQuantization) -> str:
    if base.scheme == "int8":
        return "BitsAndBytesConfig(load_in_8bit=True)"
    said = ["load_in_4bit=True", f'bnb_4bit_quant_type="{base.scheme}"']
    if base.double_quant:
        said.append("bnb_4bit_use_double_quant=True")
    for name, dtype in (
        ("bnb_4bit_compute_dtype", base.compute_dtype),
        ("bnb_4bit_quant_storage", base.storage_dtype),
    ):
        if dtype is not None:
            said.append(f"{name}={TORCH_DTYPES[dtype]}")
    return f"BitsAndBytesConfig({', '.join(said)})"


def _lora(adapter: Adapter) -> str:
    if adapter.kind not in ("lora", "dora"):
        raise CannotEdit(f"{adapter.kind} is not told")
    targets = adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets or ())
    said = [f"r={adapter.rank}"]
    said += [f"lora_alpha={adapter.alpha:g}"] if adapter.alpha is not None else []
    said += [f"lora_dropout={adapter.dropout:g}"] if adapter.dropout else []
    said += [f"target_modules={targets!r}".replace("'", '"')] if targets else []
    said += ["use_dora=True"] if adapter.kind == "dora" else []
    return f"LoraConfig({', '.join(said)})"

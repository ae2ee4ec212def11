"""Plan fields that a training script's arguments decide, written back: checkpointing, batch, length, optimizer, adapter.

Where a script makes its model itself, adapter, quantized base and dtype are edits of it that a person makes.
"""

from __future__ import annotations

from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.versions import transformers, trl
from preflight.writers.draft import LaunchDraft
from preflight.writers.engine import (
    FSDP_CHECKPOINTING,
    is_fsdp_checkpointing,
    set_launcher_option,
    write_fsdp_checkpointing,
    write_zero_batch,
)
from preflight.writers.trainer_edits import (
    is_given,
    nested_target,
    set_argument,
    sets_trainer_arguments,
    takes_model_flags,
)

CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")
DTYPE_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def write_checkpointing(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Turn full activation checkpointing on, with one switch: the trainer's where there is one; or off."""
    change = before.activation_checkpointing, after.activation_checkpointing
    if change == ("full", "none"):
        _stop_checkpointing(draft, before)
        return
    if change not in (("none", "full"), ("full", "full")):
        raise CannotEdit("only none -> full and back is written")
    given = is_given(draft, CHECKPOINTING, "activation_checkpointing")
    if not given and not sets_trainer_arguments(draft, before):
        write_fsdp_checkpointing(draft, before)
        return
    name, other = _switches(before)
    set_argument(draft, before, name, True, (other,), "activation_checkpointing")
    kwargs = tuple(f"{each}_kwargs" for each in CHECKPOINTING)
    is_wrapped = before.engine == "ddp" or before.is_fsdp
    if (
        before.trainer in HF_TRAINERS
        and is_wrapped
        and not transformers.IS_NOT_REENTRANT.holds_in(before.versions)
        and not is_given(draft, kwargs)
    ):
        # The reentrant kind runs its own backward, which DDP's and FSDP's hooks do not see.
        set_argument(draft, before, f"{name}_kwargs", {"use_reentrant": False})


def _stop_checkpointing(draft: LaunchDraft, before: LaunchPlan) -> None:
    """Turn it off where it was turned on: by FSDP's own switch, or by the trainer's, whose default may be on."""
    if is_fsdp_checkpointing(draft):
        set_launcher_option(draft, "fsdp_config", FSDP_CHECKPOINTING, False)
        return
    name, other = _switches(before)
    set_argument(draft, before, name, False, (other,), "activation_checkpointing")


def _switches(before: LaunchPlan) -> tuple[str, str]:
    """Return the trainer's name of its switch, and the one that it does not take; TRL declares the old one itself."""
    new, old = CHECKPOINTING
    renamed = before.surely(transformers.SAYS_ACTIVATION_CHECKPOINTING)
    return (new, old) if renamed and before.trainer == "transformers" else (old, new)


def write_batch(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Change micro batch and accumulation in every place that repeats them."""
    written_by_engine = write_zero_batch(draft, before, after)
    for plan_field, name in (
        ("micro_batch_size", "per_device_train_batch_size"),
        ("gradient_accumulation_steps", "gradient_accumulation_steps"),
    ):
        old, new = getattr(before, plan_field), getattr(after, plan_field)
        if old == new:
            continue
        if new is None:
            raise CannotEdit(f"{plan_field} cannot be unknown")
        needs_argument = before.trainer in HF_TRAINERS or plan_field not in written_by_engine
        if needs_argument or is_given(draft, (name,), plan_field):
            set_argument(draft, before, name, new, plan_field=plan_field)


def write_seq_len(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Change the length at which sequences are cut."""
    if after.seq_len is None:
        raise CannotEdit("seq_len cannot be unknown")
    is_trl = before.trainer == "trl"
    new, old = "max_length", "max_seq_length"
    is_old = not trl.SAYS_MAX_LENGTH.holds_in(before.versions)
    may_add = is_trl and sets_trainer_arguments(draft, before)
    set_argument(
        draft,
        before,
        old if is_old else new,
        after.seq_len,
        (new if is_old else old,),
        "seq_len",
        may_add,
    )


def write_optimizer(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Name another optimizer; the one that comes with offloading is nobody's argument."""
    if after.optimizer == "deepspeed_cpu_adam" and after.offload_optimizer != "none":
        if before.offload_optimizer != "none":
            raise CannotEdit("offloading decides the optimizer")
        return
    if after.optimizer.startswith("deepspeed_") or draft.plan.engine_facts.deepspeed_optimizer:
        raise CannotEdit("DeepSpeed's config makes the optimizer")
    if before.trainer not in HF_TRAINERS:
        raise CannotEdit("only the Trainer makes an optimizer from a name")
    set_argument(draft, before, "optim", after.optimizer, plan_field="optimizer")


def write_sync_each_batch(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Reduce gradients at every micro step, or stop doing so."""
    if before.trainer not in HF_TRAINERS:
        raise CannotEdit("a plain loop makes its own GradientAccumulationPlugin")
    value = after.sync_each_batch
    target = nested_target(draft, "accelerator_config")
    if target is not None:
        target.set(draft, "gradient_accumulation_kwargs.sync_each_batch", value)
        return
    config = {"gradient_accumulation_kwargs": {"sync_each_batch": value}}
    set_argument(draft, before, "accelerator_config", config)


def write_model_arguments(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> None:
    """Give TRL's ModelConfig an adapter, a quantized base or another dtype."""
    may_add = takes_model_flags(draft, before)
    if not may_add and draft.tells_script_edits and before.trainer in HF_TRAINERS:
        tell_model_edits(draft, before, after)
        return
    if not may_add:
        raise CannotEdit("the script does not read TRL's ModelConfig")
    arguments: dict[str, Any] = {}
    if before.load_dtype != after.load_dtype:
        arguments.update(_dtype_argument(draft, before, after.load_dtype))
    if before.base_quantization != after.base_quantization:
        arguments.update(_quantization_arguments(before.base_quantization, after))
    if before.adapter != after.adapter:
        arguments.update(_adapter_arguments(before.adapter, after.adapter))
    for name, value in arguments.items():
        set_argument(draft, before, name, value, may_add=may_add)


def _dtype_argument(draft: LaunchDraft, before: LaunchPlan, dtype: str | None) -> dict[str, Any]:
    kwargs = nested_target(draft, "model_init_kwargs")
    if kwargs is not None and (kwargs.has("dtype") or kwargs.has("torch_dtype")):
        raise CannotEdit("model_init_kwargs decides the dtype")
    is_old = not trl.SAYS_DTYPE.holds_in(before.versions)
    name = "torch_dtype" if is_old or is_given(draft, ("torch_dtype",)) else "dtype"
    return {name: "auto" if dtype is None else DTYPE_NAMES[dtype]}


def _quantization_arguments(old: BaseQuantization | None, after: LaunchPlan) -> dict[str, Any]:
    new = after.base_quantization
    if old is not None or new is None:
        raise CannotEdit("only an unquantized base is quantized")
    if new.scheme == "int8":
        return {"load_in_8bit": True}
    if new.compute_dtype not in (None, after.load_dtype):
        raise CannotEdit("TRL computes in the dtype that the base is loaded in")
    arguments: dict[str, Any] = {"load_in_4bit": True}
    if new.scheme != "nf4":
        arguments["bnb_4bit_quant_type"] = new.scheme
    if new.double_quant:
        arguments["use_bnb_nested_quant"] = True
    if new.storage_dtype is not None:
        arguments["bnb_4bit_quant_storage"] = DTYPE_NAMES[new.storage_dtype]
    return arguments


def _adapter_arguments(old: Adapter | None, new: Adapter | None) -> dict[str, Any]:
    if new is None:
        raise CannotEdit("an adapter is not taken away")
    if new.kind not in ("lora", "dora"):
        raise CannotEdit(f"TRL has no flag for {new.kind}")
    arguments: dict[str, Any] = {} if old is not None else {"use_peft": True}
    if new.kind != (old.kind if old is not None else "lora"):
        arguments["use_dora"] = new.kind == "dora"
    for name, attribute in (
        ("lora_r", "rank"),
        ("lora_alpha", "alpha"),
        ("lora_dropout", "dropout"),
        ("lora_target_modules", "targets"),
        ("lora_modules_to_save", "modules_to_save"),
    ):
        value = getattr(new, attribute)
        if (old is None and value is not None) or (
            old is not None and value != getattr(old, attribute)
        ):
            if value is None:
                raise CannotEdit(f"{name} cannot be taken back")
            is_name = name == "lora_target_modules" and isinstance(value, str)
            arguments[name] = [value] if is_name else value
    return arguments


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

"""Plan fields from a torchtune config: batch, sequence, precision, checkpointing, offload, loss, optimizer.

Source: recipes/full_finetune_distributed.py, full_finetune_single_device.py and lora_finetune_distributed.py of
torchtune 0.6.1; the other recipes read the same keys where they read them at all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.named_optimizer import named_optimizer
from preflight.launchers.torchtune.beside import read_beside
from preflight.launchers.torchtune.config import COMPONENT
from preflight.launchers.torchtune.model import Builder, read_model
from preflight.launchers.torchtune.table import OF_SAME_ROWS, longest_row_of
from preflight.near_names import nearest_fix
from preflight.plan_parts import open_up_to
from preflight.setting import Setting

DTYPES = {
    "fp32": "fp32",
    "float32": "fp32",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "float16": "fp16",
}
"""PRECISION_STR_TO_DTYPE (torchtune/training/precision.py:15, 0.6.1) and torch's own names."""
LOSSES = {
    "CEWithChunkedOutputLoss": "chunked_ce",
    "LinearCrossEntropyLoss": "chunked_linear",
    "CrossEntropyLoss": "full_logits",
    "DPOLoss": "full_logits",
}


def read_plan(
    keys: FrameworkKeys,
    recipe: str,
    reads: tuple[str, ...],
    pointed_at: Collection[str],
    builder: Builder,
) -> None:
    """Put every plan field that the config decides; what the recipe does not read has no effect.

    `pointed_at` are the keys that others name as `${key}`: they need no other reader. `builder` returns what is known
    of a model builder, by its name.
    """
    _unread(keys, recipe, reads, pointed_at)
    dtype = _dtype(keys, recipe)
    section = "policy_model" if recipe.startswith("ppo_") else "model"
    read_model(keys, dtype, builder, section)
    _batch(keys, recipe)
    _validation(keys, reads)
    _sequence(keys, builder, section)
    _checkpointing(keys, reads)
    _loss(keys)
    _optimizer(keys)
    compiled = keys.get("compile")
    if compiled is not None:
        value = compiled.value
        on = any(value.values()) if isinstance(value, Mapping) else keys.is_on("compile")
        keys.put("torch_compile", on, compiled)
    if "_dpo_" in recipe:
        keys.put("objective", "dpo", keys.by_default("dpo"))
    read_beside(keys, recipe, builder, section)


def _unread(
    keys: FrameworkKeys, recipe: str, reads: tuple[str, ...], pointed_at: Collection[str]
) -> None:
    if not reads:
        return  # A recipe of one's own may read anything.
    for name, setting in keys.given.items():
        if "." in name or name in reads or name in pointed_at:
            continue
        near = nearest_fix(name, reads)
        keys.note(
            "PF140",
            f"{recipe} does not read {name}: it has no effect",
            setting,
            near or f"drop {name}",
            "warning" if near else "info",
        )


def _dtype(keys: FrameworkKeys, recipe: str) -> str | None:
    setting = keys.get("dtype")
    if setting is None:
        return None
    dtype = DTYPES.get(str(setting.value))
    if dtype is None:
        keys.refuse(f"dtype must be fp32, bf16 or fp16, not {setting.value!r}", setting, "bf16")
        return None
    if dtype == "fp16":
        keys.refuse(f"{recipe} does not train in fp16", setting, "dtype: bf16")
        return None
    keys.put("load_dtype", dtype, setting)
    keys.assume("mixed_precision", "no", "weights, gradients and states have the recipe's dtype")
    return dtype


def _batch(keys: FrameworkKeys, recipe: str) -> None:
    micro = keys.count("batch_size")
    if recipe.startswith("ppo_"):
        micro = keys.count("ppo_batch_size") or micro
    if micro is not None:
        keys.put("micro_batch_size", micro.value, micro)
    steps = keys.count("gradient_accumulation_steps")
    if steps is not None:
        keys.put("gradient_accumulation_steps", steps.value, steps)
    norm = keys.get("clip_grad_norm")
    if norm is not None and isinstance(norm.value, (int, float)):
        keys.put("max_grad_norm", float(norm.value), norm)
    in_backward = keys.flag("optimizer_in_bwd")
    if in_backward is None or not in_backward.value:
        return
    if steps is not None and steps.value > 1:
        keys.refuse(
            "optimizer_in_bwd and gradient_accumulation_steps above 1 exclude each other",
            in_backward,
            "gradient_accumulation_steps: 1",
        )
    if norm is not None:
        keys.refuse(
            "optimizer_in_bwd and clip_grad_norm exclude each other", in_backward, "drop one"
        )
    keys.put("optimizer_in_backward", True, in_backward)


def _sequence(keys: FrameworkKeys, builder: Builder, section: str) -> None:
    longest = keys.count("tokenizer.max_seq_len")
    packed = keys.flag("dataset.packed")
    is_packed = packed is not None and packed.value
    if longest is not None:
        keys.put("seq_len", longest.value, longest)
    elif not is_packed and not keys.is_unknown("tokenizer.max_seq_len"):
        _longest_row(keys, builder, str(keys.value(f"{section}.{COMPONENT}")))
    if longest is None and is_packed and packed is not None:
        keys.refuse(
            "dataset.packed needs tokenizer.max_seq_len",
            packed,
            "tokenizer.max_seq_len=4096 on the command line",
        )
    keys.decide("sequence_kind", "packed" if is_packed else "padded", packed)
    keys.assume("attention", "sdpa", "F.scaled_dot_product_attention, or flex attention for packs")


def _longest_row(keys: FrameworkKeys, builder: Builder, component: str) -> None:
    """Leave the length open up to what the model itself takes: the tokenizer cuts nothing.

    TransformerDecoder raises for a longer row (torchtune/modules/transformer.py:528, 0.6.1; its attention before 0.3),
    and no builder of 0.1 to 0.7 takes more than that of 0.6.1.
    """
    most = (builder(component) or {}).get("longest_row")
    if most is None:
        return
    who = f"{component.rsplit('.', 1)[-1]} refuses"
    told = _longest_of_dataset(keys)
    if told is not None and told[0] < most:
        most, config = told
        who = f"{config}, which trains on the same rows, has a model that refuses"
    reason = f"tokenizer.max_seq_len is null, and {who} rows of more than {most:,} tokens"
    keys.origins["seq_len"] = open_up_to(most, reason)


def _longest_of_dataset(keys: FrameworkKeys) -> tuple[int, str] | None:
    """Return what torchtune's own configs tell of the rows of a dataset of which a launch takes them, or a part of them."""
    section = {n.removeprefix("dataset."): s for n, s in keys.given.items() if n.startswith("dataset.")}  # fmt: skip
    split = section.pop("split", None)
    is_part = split is None or str(split.value).partition("[")[0] in ("train", "None")
    others = {n for n, s in section.items() if s.value is not None} - {COMPONENT, *OF_SAME_ROWS}
    if others or not is_part:
        return None
    return longest_row_of(str(keys.value(f"dataset.{COMPONENT}")))


def _checkpointing(keys: FrameworkKeys, reads: tuple[str, ...]) -> None:
    switch, mode = keys.flag("enable_activation_checkpointing"), keys.get("ac_mode")
    if reads and "ac_mode" not in reads:
        mode = None
    is_on = switch is not None and switch.value
    if is_on and switch is not None and mode is None:
        keys.put("activation_checkpointing", "full", switch)
    elif is_on and switch is not None and mode is not None:
        keys.note(
            "PF140",
            "enable_activation_checkpointing beside ac_mode: the recipe applies neither",
            mode,
            "drop one of them",
        )
        keys.put("activation_checkpointing", "none", switch, mode)
    elif mode is not None:
        keys.put("activation_checkpointing", _selective(keys, mode), mode)
    elif switch is not None:
        keys.put("activation_checkpointing", "none", switch)
    offload = keys.flag("enable_activation_offloading")
    if offload is None:
        return
    if offload.value and not is_on:
        keys.refuse(
            "enable_activation_offloading needs enable_activation_checkpointing",
            offload,
            "enable_activation_checkpointing: True",
        )
    keys.put("offload_activations", "cpu" if offload.value else "none", offload)


def _selective(keys: FrameworkKeys, mode: Setting) -> str:
    """Return what ac_mode and ac_option mean (torchtune/training/activations.py:20, 0.6.1)."""
    option = keys.value("ac_option")
    if mode.value == "full":
        return "full"
    if mode.value != "selective":
        return "none"
    if str(option) == "op":
        return "selective_op"
    if str(option) in ("0", "1"):
        return "full"
    if str(option) != "2":
        message = f"checkpointing every {option} layers is estimated as none at all"
        keys.leave_out(NotModelled(message, f"checkpointing every {option} layers", "less"), mode)
        return "none"
    return "selective_every_2"


def _validation(keys: FrameworkKeys, reads: tuple[str, ...]) -> None:
    """Record the rows of a validation, of recipes that have one (full_finetune_distributed.py validate, 0.7.0)."""
    asked = keys.get("run_val_every_n_steps")
    if asked is None or asked.value is None or (reads and "run_val_every_n_steps" not in reads):
        return
    rows = keys.count("batch_size_val") or keys.count("batch_size")
    if rows is not None:
        keys.put("eval_micro_batch_size", rows.value, rows)


def _loss(keys: FrameworkKeys) -> None:
    component = keys.get(f"loss.{COMPONENT}")
    if component is None:
        return
    name = str(component.value).rsplit(".", 1)[-1]
    loss = LOSSES.get(name, "full_logits")
    if name not in LOSSES:
        message = f"{name} is estimated as a loss over whole logits"
        keys.leave_out(NotModelled(message, f"the loss {name}", "either"), component)
    keys.put("loss", loss, component)
    chunks = keys.count("loss.num_output_chunks")
    if chunks is not None:
        keys.argument("num_output_chunks", chunks.value, chunks)


def _optimizer(keys: FrameworkKeys) -> None:
    component = keys.get(f"optimizer.{COMPONENT}")
    if component is None:
        return
    name = str(component.value)
    optimizer = named_optimizer(keys, name, component)
    fused, foreach = keys.flag("optimizer.fused"), keys.flag("optimizer.foreach")
    if name == "torch.optim.AdamW" and fused is not None and fused.value:
        keys.put("optimizer", "adamw_torch_fused", component, fused)
        return
    keys.put("optimizer", optimizer, component)
    if name.startswith("torch.optim.") and fused is not None and fused.value:
        keys.put("optimizer_kernel", "fused", fused)
    elif name.startswith("torch.optim.") and foreach is not None:
        keys.put("optimizer_kernel", "foreach" if foreach.value else "for_loop", foreach)

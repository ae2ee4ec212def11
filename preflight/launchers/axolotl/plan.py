"""axolotl's config in plan fields: model, batch, length, precision, optimizer; the rest is in axolotl_adapter and _activations.

Source: axolotl 0.19.0, utils/schemas/*.py (what a key may be), core/builders/base.py and causal.py (what
TrainingArguments gets), utils/config/__init__.py (resolve_dtype, normalize_config).
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.bool_words import STRTOBOOL
from preflight.formulas.optimizers import MUON
from preflight.launchers.axolotl.activations import (
    read_attention,
    read_checkpointing,
    read_kernels,
    read_loss,
)
from preflight.launchers.axolotl.adapter import read_adapter
from preflight.launchers.axolotl.keys import axolotl_table
from preflight.launchers.axolotl.left_out import name_left_out
from preflight.launchers.axolotl.objective import read_objective
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled, read_accumulation
from preflight.launchers.low_rank import read_low_rank
from preflight.near_names import nearest_fix
from preflight.scripts.arguments.trainer_tables import argument_table
from preflight.setting import Setting

DECIDES = {
    "base_model": "model",
    "sequence_len": "seq_len",
    "micro_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "gradient_checkpointing": "activation_checkpointing",
    "optimizer": "optimizer",
    "adapter": "adapter",
    "load_in_4bit": "base_quantization",
    "load_in_8bit": "base_quantization",
    "deepspeed": "engine",
    "fsdp": "engine",
    "bf16": "mixed_precision",
    "flash_attention": "attention",
    "attn_implementation": "attention",
}
"""Key -> the plan field that is not known while a placeholder stands there."""
LIKE_TRAINERS = {"adopt_adamw": "adamw_torch", "adamc": "adamw_torch"}
"""axolotl's own optimizers that keep as much per parameter as one that is modelled (utils/optimizers)."""


def read_axolotl_plan(keys: FrameworkKeys) -> None:
    """Fill in every plan field that axolotl's keys decide, and TrainingArguments as axolotl makes them."""
    keys.put_text("model", "base_model")
    _batch(keys)
    dtype = _precision(keys)
    _optimizer(keys)
    read_adapter(keys, dtype)
    read_checkpointing(keys)
    read_attention(keys)
    _length(keys)
    read_loss(keys)
    read_kernels(keys)
    compiled = keys.get("torch_compile")
    if compiled is not None and STRTOBOOL.read(compiled.value) is not False:
        keys.put("torch_compile", True, compiled)
        keys.argument("torch_compile", True, compiled)
        for name in ("torch_compile_mode", "torch_compile_backend"):
            given = keys.get(name)
            if given is not None:
                keys.argument(name, given.value, given)
    read_objective(keys)
    name_left_out(keys)


def _batch(keys: FrameworkKeys) -> None:
    micro = keys.put_count("micro_batch_size", "micro_batch_size", 1)
    rows = keys.settings["micro_batch_size"].value if "micro_batch_size" in keys.settings else None
    keys.put_count("gradient_accumulation_steps", "gradient_accumulation_steps", 1)
    if rows is not None:
        keys.argument("per_device_train_batch_size", rows, micro)
    decided = keys.settings.get("gradient_accumulation_steps")
    if decided is not None:
        keys.argument("gradient_accumulation_steps", decided.value, decided)
    norm = keys.get("max_grad_norm")
    if norm is not None and isinstance(norm.value, (int, float)):
        keys.put("max_grad_norm", float(norm.value), norm)
        keys.argument("max_grad_norm", float(norm.value), norm)
    else:
        keys.assume("max_grad_norm", 1.0, "no max_grad_norm: that of transformers")
    for name in ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon"):
        setting = keys.get(name)
        if setting is not None:
            try:
                keys.argument(name, float(setting.value), setting)
            except (TypeError, ValueError):
                keys.refuse(f"{name} must be a number, not {setting.value!r}", setting)
    _evaluation(keys, rows, micro)
    read_accumulation(keys)


BY_EPOCH = NotModelled(
    "axolotl before 0.10 evaluates after every epoch, in these rows, where data is held out and nothing says when",
    "an evaluation of more rows than a step has",
    "more",
)


def _evaluation(keys: FrameworkKeys, rows: int | None, micro: Setting | None) -> None:
    """Record the rows of an evaluation step; axolotl evaluates where it holds data out and is told when.

    Before 0.10 it did after every epoch where it was not told (core/trainer_builder.py, 0.9.2).
    """
    held_out = keys.value("val_set_size", 0) not in (0, 0.0, "0") or keys.value("test_datasets")
    when = [keys.value("eval_steps"), keys.value("evals_per_epoch")]
    strategy = keys.value("eval_strategy", "no")
    evaluates = bool(held_out) and (any(when) or strategy not in ("no", False))
    given = keys.count("eval_batch_size")
    if not evaluates:
        if held_out and given is not None and given.value > (rows or 0):
            keys.leave_out(BY_EPOCH, given)
        return
    if given is not None:
        keys.put("eval_micro_batch_size", given.value, given)
    elif micro is not None:
        keys.put("eval_micro_batch_size", rows, micro)
    elif rows is not None:
        keys.assume("eval_micro_batch_size", rows, "no eval_batch_size: that of training")


def _precision(keys: FrameworkKeys) -> str:
    """Record precision and load dtype as resolve_dtype decides them; return the load dtype."""
    bf16, fp16, eight = keys.get("bf16", "bfloat16"), keys.get("fp16"), keys.flag("load_in_8bit")
    word = str(bf16.value).lower() if bf16 is not None else "auto"
    is_half = fp16 is not None and STRTOBOOL.read(fp16.value) is True
    if bf16 is not None and STRTOBOOL.read(word) is True:
        keys.put("mixed_precision", "bf16", bf16)
        keys.put("load_dtype", "bf16", bf16)
    elif fp16 is not None and is_half:
        keys.put("mixed_precision", "fp16", fp16)
        keys.put("load_dtype", "fp16", fp16)
    elif bf16 is None or word == "auto":
        for plan_field in ("mixed_precision", "load_dtype"):
            keys.assume(plan_field, "bf16", "bf16: auto is bf16 on Ampere and later, fp16 before")
            if bf16 is not None:
                keys.places[plan_field] = (bf16.place,)
    else:
        if STRTOBOOL.read(word) is not False:
            keys.refuse(f"bf16 must be true, false or auto, not {bf16.value!r}", bf16)
        keys.put("mixed_precision", "no", bf16)
        half = keys.get("float16")
        loads_half = half is not None and STRTOBOOL.read(half.value) is True
        loads_half = loads_half or (eight is not None and eight.value is True)
        keys.put("load_dtype", "fp16" if loads_half else "fp32", bf16)
    decided = keys.settings["mixed_precision"]
    keys.argument("bf16", decided.value == "bf16", decided)
    keys.argument("fp16", decided.value == "fp16", decided)
    return str(keys.settings["load_dtype"].value)


def _optimizer(keys: FrameworkKeys) -> None:
    setting = keys.get("optimizer")
    if setting is None:
        if not keys.is_unknown("optimizer"):
            keys.assume("optimizer", "adamw_torch_fused", "no optimizer")
            keys.argument("optim", "adamw_torch_fused", None)
        return
    name, own = str(setting.value), axolotl_table()["optimizers"]
    trainers = argument_table(None).arguments["optim"].choices or ()
    if name in LIKE_TRAINERS:
        name = LIKE_TRAINERS[name]
    elif name in own and name != MUON:
        message = f"{name} is estimated as adamw_torch_fused"
        keys.leave_out(NotModelled(message, f"the states of {name}", "either"), setting)
        name = "adamw_torch_fused"
    elif name not in trainers and name != MUON:
        known = tuple(str(choice) for choice in (*trainers, *own))
        keys.refuse(f"there is no optimizer {name!r}", setting, nearest_fix(name, known))
        return
    keys.put("optimizer", name, setting)
    keys.argument("optim", name, setting)
    read_low_rank(keys, name, setting)


def _generates(keys: FrameworkKeys) -> Setting | None:
    """Return what trains on completions of prompts (utils/data/rl.py _drop_long_sequences, 0.15.0 to 0.19.0); None elsewhere.
    Strided EBFT samples along rows that are cut."""
    objective, section = keys.get("rl"), keys.value("ebft")
    is_strided = isinstance(section, Mapping) and section.get("mode") == "strided"
    if objective is None or objective.value not in ("grpo", "gdpo", "ebft") or is_strided:
        return None
    return objective


def _served_length(keys: FrameworkKeys) -> Setting | None:
    """Return the longest row of a vLLM server that this very config describes, which refuses longer ones."""
    section, trl = keys.get("vllm"), keys.value("trl")
    if section is None or not isinstance(section.value, Mapping) or not isinstance(trl, Mapping):
        return None
    length = section.value.get("max_model_len")
    is_served = trl.get("use_vllm") is True and isinstance(length, int) and length > 0
    return Setting(length, section.place) if is_served else None


def _length(keys: FrameworkKeys) -> None:
    length = keys.count("sequence_len")
    packing, pads = keys.flag("sample_packing"), keys.flag("pad_to_sequence_len")
    sees = keys.get("processor_type")
    if sees is not None and not (packing is not None and packing.value is True):
        # MultiModalChatDataCollator (utils/collators/mm_chat.py, docs/multimodal.qmd, 0.5 to 0.19)
        keys.note(
            "PF126",
            "axolotl neither cuts nor drops rows with images at sequence_len: the longest one is not known",
            sees,
            "--set seq_len=N, the longest row of the data with its image tokens",
        )
    elif (generates := _generates(keys)) is not None:
        served = _served_length(keys)
        if served is not None:
            keys.put("seq_len", served.value, served)
        else:
            keys.note(
                "PF143",
                f"axolotl neither cuts nor drops prompts of rl: {generates.value} at sequence_len: how long rows are is not known",
                generates,
                "--set seq_len=N, the longest prompt with its completion",
            )
    elif length is not None:
        keys.put("seq_len", length.value, length)
    elif not keys.is_unknown("sequence_len"):
        keys.assume("seq_len", 512, "no sequence_len")
    flattens = keys.get("batch_flattening")
    if packing is not None and packing.value is True:
        # Packing pads to the whole length unless told not to (hint_sample_packing_padding).
        is_fixed = pads is None or pads.value is True
        keys.put("sequence_kind", "fixed" if is_fixed else "packed", packing)
    elif pads is not None and pads.value:
        keys.put("sequence_kind", "padded", pads)
    elif flattens is not None and flattens.value is True:
        keys.put("sequence_kind", "packed", flattens)
    else:
        keys.assume("sequence_kind", "padded", "no sample_packing")

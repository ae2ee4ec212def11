"""ms-swift's arguments in plan fields: model, batch, length, checkpointing, optimizer and loss; model.py has the rest.

Source: ms-swift 4.6.0, trainers/{arguments,mixin,seq2seq_trainer}.py, arguments/{sft,pretrain}_args.py and
arguments/base_args/*.py; trainers and llm/argument of 3.x have the same but where a release is named here.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from preflight.formulas.layers.kernels import LIGER_KERNELS
from preflight.formulas.optimizers import MUON
from preflight.launchers.framework_keys import FrameworkKeys, NotModelled
from preflight.launchers.low_rank import read_low_rank, read_own_galore
from preflight.launchers.swift.engine import shards
from preflight.launchers.swift.left_out import name_left_out
from preflight.launchers.swift.model import (
    read_attention,
    read_dtype,
    read_frozen,
    read_quantization,
    read_trained,
)
from preflight.launchers.swift.objective import read_objective
from preflight.launchers.swift.table import default_of
from preflight.setting import Setting
from preflight.shell.starters.launcher_part import LauncherPart
from preflight.unpriced_names import SWIFT_SEQUENCES
from preflight.versions.ms_swift import KEEPS_LOGITS, PLAIN_DDP_RECOMPUTES

DECIDES = {
    "model": "model",
    "max_length": "seq_len",
    "per_device_train_batch_size": "micro_batch_size",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "tuner_type": "adapter",
    "train_type": "adapter",
    "lora_rank": "adapter",
    "quant_bits": "base_quantization",
    "deepspeed": "engine",
    "fsdp": "engine",
    "optim": "optimizer",
    "attn_impl": "attention",
    "torch_dtype": "load_dtype",
}
"""Argument -> the plan field that is not known while a placeholder stands there."""
OPTIMIZERS = {
    "galore": ("GaLore's low-rank states", "less"),
    "muonclip": ("MuonClip's states", "either"),
}
"""`optimizer`, which beats `optim` -> what is estimated as AdamW's; lorap and multimodal change rates alone."""
MADE_GALORE_OF = ("adamw_hf", "adamw_torch", "adamw_torch_fused")
ALIKE = ("default", "lorap", "multimodal")
BINARY_SCALES = frozenset({"default", "last_round", "all", "ignore_empty_think"})
"""Values of `loss_scale` that only leave tokens out; every other weighs them, outside the model (loss_scale/*.py)."""
ANSWERS = ("sft", "dpo", "ipo", "kto")
"""Objectives of which the answers alone are scored (prepare_logits_to_keep, 4.6.0)."""
PAIRS = (*ANSWERS[1:], "orpo", "cpo", "simpo")
"""Objectives whose trainers give the model no labels: what Liger fuses makes whole logits then."""


def read_swift_plan(keys: FrameworkKeys, name: str, part: LauncherPart) -> None:
    """Fill in every plan field that the arguments of a command decide, and TrainingArguments."""
    for each in keys.given:
        setting = keys.get(each)
        if setting is not None and each not in keys.arguments:
            keys.argument(each, setting.value, setting)
    keys.put_text("model", "model")
    objective = read_objective(keys, name)
    _batch(keys, part, name)
    dtype = read_dtype(keys)
    _optimizer(keys)
    read_quantization(keys, dtype)
    read_trained(keys)
    read_frozen(keys)
    attention = read_attention(keys)
    _checkpointing(keys, part)
    _length(keys, attention, objective)
    _loss(keys, objective)
    name_left_out(keys)


def _batch(keys: FrameworkKeys, part: LauncherPart, name: str) -> None:
    rows = keys.put_count("micro_batch_size", "per_device_train_batch_size", 1)
    steps = keys.count("gradient_accumulation_steps")
    is_grpo = name == "rlhf" and keys.value("rlhf_type") == "grpo"
    if steps is not None:
        keys.put("gradient_accumulation_steps", steps.value, steps)
    elif not keys.is_unknown("gradient_accumulation_steps"):
        num_ranks = int(part.ranks["world_size"].value)
        num_rows = rows.value if rows is not None else 1
        taken = 1 if is_grpo else max(1, ceil(16 / num_rows / num_ranks))
        keys.assume("gradient_accumulation_steps", taken, "16 rows of all ranks in one step")
        keys.argument("gradient_accumulation_steps", taken, None)
    _evaluation(keys)
    norm = keys.number("max_grad_norm")
    if norm is not None:
        keys.put("max_grad_norm", norm.value, norm)
    else:
        keys.assume("max_grad_norm", 1.0, "no max_grad_norm")
    compiled = keys.flag("torch_compile")
    if compiled is not None and compiled.value:
        keys.put("torch_compile", True, compiled)


def _evaluation(keys: FrameworkKeys) -> None:
    strategy = keys.get("eval_strategy", "evaluation_strategy")
    ratio = keys.value("split_dataset_ratio")
    if ratio is None:
        ratio = default_of("sft", "split_dataset_ratio", keys.library.version)
    held_out = keys.get("val_dataset", "cached_val_dataset") is not None or bool(ratio)
    if not held_out or (strategy is not None and strategy.value == "no"):
        return
    rows = keys.count("per_device_eval_batch_size")
    if rows is not None:
        keys.put("eval_micro_batch_size", rows.value, rows)
    else:
        keys.assume("eval_micro_batch_size", 1, "no per_device_eval_batch_size")


def _optimizer(keys: FrameworkKeys) -> None:
    own = keys.get("optimizer")
    if _makes_galore(keys, own):
        return
    if own is not None and own.value == MUON:
        keys.put("optimizer", MUON, own)
        return
    if own is not None and own.value not in ALIKE:
        what, takes = OPTIMIZERS.get(str(own.value), (f"the optimizer {own.value}", "either"))
        keys.leave_out(NotModelled(f"{what} are estimated as AdamW's", what, takes), own)
    named = keys.put_text("optimizer", "optim")
    if named is not None:
        read_low_rank(keys, str(named.value), named)


NOT_AS_GALORE = ("galore_quantization", "galore_with_embedding")
"""Arguments under which other packages make GaLore's states, or embeddings have them too."""


def _makes_galore(keys: FrameworkKeys, own: Setting | None) -> bool:
    """Record the GaLore that `use_galore` makes of `optim`; tell whether it is priced (optimizers/galore/utils.py, 4.6.0).

    Its copies of galore_torch's classes keep and make what those do; parameters that have an optimizer each are
    stepped together all the same.
    """
    asked, optim = keys.get("use_galore"), str(keys.value("optim", "adamw_torch"))
    is_own = own is None or own.value == "galore"
    if asked is None or not keys.is_on("use_galore") or not is_own or keys.get("lorap_lr_ratio"):
        return False
    if any(map(keys.is_on, NOT_AS_GALORE)):
        return False
    is_8bit = "adamw" in optim and "8bit" in optim
    if optim != "adafactor" and not is_8bit and optim not in MADE_GALORE_OF:
        return False
    kind = "adafactor" if optim == "adafactor" else "adamw_8bit" if is_8bit else "adamw"
    keys.put("optimizer", f"galore_{kind}", asked, *filter(None, (own, keys.get("optim"))))
    read_own_galore(keys, f"galore_{kind}", asked, "galore", {})
    return True


def _checkpointing(keys: FrameworkKeys, part: LauncherPart) -> None:
    """Record what is recomputed: every layer unless told not to, through swift's own torch.utils.checkpoint."""
    flag, tower = keys.flag("gradient_checkpointing"), keys.flag("vit_gradient_checkpointing")
    keys.argument("gradient_checkpointing", flag is None or bool(flag.value), flag)
    is_on = flag is None or bool(flag.value)
    keys.decide(
        "activation_checkpointing",
        "full" if is_on else "none",
        flag,
        reason="on unless gradient_checkpointing is false",
    )
    if tower is not None and bool(tower.value) != is_on:
        takes = "less" if tower.value else "more"
        message = "the vision tower is estimated to be recomputed as the layers of text are"
        keys.leave_out(NotModelled(message, "a tower's checkpointing", takes), tower)
    if not is_on:
        return
    kwargs = keys.get("gradient_checkpointing_kwargs")
    reentrant = _reentrant(kwargs)
    version = keys.library.versions
    if reentrant is not None and kwargs is not None:
        keys.put("checkpointing_reentrant", reentrant, kwargs)
    elif not PLAIN_DDP_RECOMPUTES.holds_in(version):
        keys.assume("checkpointing_reentrant", True, "no gradient_checkpointing_kwargs")
    else:
        is_plain = part.is_distributed and not shards(keys, part)
        why = "under plain DDP" if is_plain else "on one rank, DeepSpeed and FSDP"
        keys.assume("checkpointing_reentrant", not is_plain, why)


def _reentrant(kwargs: Setting | None) -> bool | None:
    if kwargs is None:
        return None
    value = kwargs.value
    if isinstance(value, str):
        from preflight.errors import BadInput
        from preflight.formats.load import parse_json

        try:
            value = parse_json(value, kwargs.place.where)
        except BadInput:
            return None
    said = value.get("use_reentrant") if isinstance(value, dict) else None
    return said if isinstance(said, bool) else None


def _length(keys: FrameworkKeys, attention: str | None, objective: str) -> None:
    packing, flat = keys.flag("packing"), keys.flag("padding_free")
    is_packed = packing is not None and bool(packing.value)
    length = keys.count("max_length")
    if is_packed and (packed := keys.count("packing_length")) is not None:
        length = packed
    if length is not None:
        keys.put("seq_len", length.value, length)
    # What is longer is dropped or cut (truncation_strategy); without max_length the model's own longest stands.
    is_flash = attention is not None and attention.startswith("flash")
    if is_packed and packing is not None:
        keys.put("sequence_kind", "packed" if is_flash else "padded", packing)
    elif flat is not None and flat.value:
        keys.put("sequence_kind", "packed", flat)
    else:
        keys.assume("sequence_kind", "padded", "neither packing nor padding_free")
    parallel = keys.count("sequence_parallel_size")
    if parallel is None or parallel.value <= 1:
        return
    if is_flash and objective in ("sft", "pretrain"):
        keys.put("sequence_parallel_degree", parallel.value, parallel)
        message = "what swift's ranks exchange of a sequence is bounded where keys have heads for all of them"
        keys.leave_out(NotModelled(message, SWIFT_SEQUENCES, "either"), parallel)
        return
    message = "every rank is estimated with its whole sequence: swift's own sequence parallelism is not counted"
    keys.leave_out(NotModelled(message, "sequence parallelism", "less"), parallel)


def _beside_the_model(keys: FrameworkKeys) -> Setting | None:
    """Return what makes the trainer take the loss of whole logits itself, so that Liger's head does not run; None without.

    Source: compute_loss in trainers/trainers.py (3.5.0) and trainers/seq2seq_trainer.py (4.6.0), which warns of it.
    """
    scale = keys.get("loss_scale")
    if scale is not None and not set(str(scale.value).split("+")) <= BINARY_SCALES:
        return scale
    for name in ("loss_type", "label_smoothing_factor"):
        setting = keys.get(name)
        if setting is not None and setting.value:
            return setting
    for name in ("enable_dft_loss", "enable_channel_loss"):
        if keys.is_on(name):
            return keys.get(name)
    parallel = keys.count("sequence_parallel_size")
    return parallel if parallel is not None and parallel.value > 1 else None


def _loss(keys: FrameworkKeys, objective: str) -> None:
    liger = keys.flag("use_liger_kernel") or keys.flag("use_liger")
    if liger is not None and liger.value:
        keys.put("kernels", LIGER_KERNELS, liger)
        beside = _beside_the_model(keys) if objective in ("sft", "pretrain") else None
        if beside is None and objective not in PAIRS:
            keys.put("loss", "fused_linear", liger)
            return
        said = (beside, liger) if beside is not None else (liger,)
        keys.put("loss", "full_logits", *said)
        if beside is not None:
            return
    else:
        keys.assume("loss", "full_logits", "no use_liger_kernel")
    own = keys.get("loss_type")
    if own is not None and objective == "sft":
        message = f"the loss {own.value} is estimated as the model's own"
        keys.leave_out(NotModelled(message, f"the loss {own.value}", "either"), own)
    kept = keys.flag("use_logits_to_keep")
    versions = keys.library.versions
    may_keep = KEEPS_LOGITS.holds_in(versions) and (kept is None or bool(kept.value))
    if objective in ANSWERS and may_keep:
        # prepare_logits_to_keep: logits of the tokens that are answers, and data decides how many these are.
        reason = "logits of answers alone are made, and the data decides how many of a row's tokens these are"
        origin = keys.origins["loss"]
        may_be = ("full_logits", "fused_linear")
        keys.origins["loss"] = replace(origin, reason=reason, may_be=may_be)

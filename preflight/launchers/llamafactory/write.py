"""Plan fields in LLaMA-Factory's arguments: what a remedy changes, written into a copy of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.formulas.optimizers import LOW_RANK, MUON
from preflight.launch import LaunchPlan
from preflight.launchers.llamafactory.model import ATTENTIONS
from preflight.rewrite import Rewrite
from preflight.writers.draft import LaunchDraft
from preflight.writers.framework import (
    BATCH,
    batch_keys,
    bnb_keys,
    checkpointing_key,
    liger_key,
    new_adapter,
    optimizer_key,
    size_key,
    sync_key,
    write_framework,
)


def write_llamafactory(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless LLaMA-Factory's arguments can say it."""
    return write_framework(before, after, WRITERS)


def _model(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if after.load_dtype not in ("auto", before.load_dtype):
        raise CannotEdit("a frozen base is loaded in the checkpoint's own dtype")
    names = "quantization_bit", "quantization_type", "double_quantization"
    keys = {**bnb_keys(before, after, *names)}
    new = new_adapter(before, after)
    if new is not None:
        if before.low_rank is not None or before.layers_at_a_time is not None:
            raise CannotEdit("GaLore, APOLLO and BAdam work without an adapter")
        keys.update(finetuning_type="lora", lora_rank=new.rank, lora_target="all")
        keys["lora_dropout"] = new.dropout
        if new.alpha is not None:
            keys["lora_alpha"] = new.alpha
    return keys


def _attention(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    words = {name: word for word, name in ATTENTIONS.items() if name is not None}
    if after.attention not in words:
        raise CannotEdit(f"flash_attn has no word for {after.attention}")
    return {"flash_attn": words[after.attention]}


MAKE_THEIR_OWN = ("Adam-mini",)
"""Optimizers that LLaMA-Factory makes itself: `optim` is not read then, or refused but for a few names
(create_custom_optimizer in train/trainer_utils.py, 0.9.5)."""


def _optimizer(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Mapping[str, Any]:
    own = [each.unpriced for each in before.notices if each.unpriced in MAKE_THEIR_OWN]
    own += [before.optimizer] * before.optimizer.startswith((MUON, *LOW_RANK))
    if own:
        raise CannotEdit(f"{own[0]} makes the optimizer")
    return optimizer_key("optim")(draft, before, after)


WRITERS = {
    BATCH: batch_keys("per_device_train_batch_size"),
    ("seq_len",): size_key("cutoff_len", "seq_len"),
    ("optimizer",): _optimizer,
    ("activation_checkpointing", "checkpointing_reentrant"): checkpointing_key(
        "disable_gradient_checkpointing", turns_off=True
    ),
    ("sync_each_batch",): sync_key,
    ("attention",): _attention,
    ("loss", "kernels"): liger_key("enable_liger_kernel"),
    ("eval_micro_batch_size",): size_key("per_device_eval_batch_size", "eval_micro_batch_size"),
    ("adapter", "base_quantization", "load_dtype"): _model,
}

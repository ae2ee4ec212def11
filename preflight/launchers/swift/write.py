"""Plan fields in ms-swift's arguments: what a remedy changes, as flags or in a copy of its file."""

from __future__ import annotations

from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.launchers.swift.table import is_before
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
    write_framework,
)


def write_swift(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless ms-swift's arguments can say it, which those before 3.0,
    of other names, do not."""
    flags = () if before.command is None else before.command.argv
    if is_before({flag[2:].partition("=")[0] for flag in flags if flag.startswith("--")}):
        return None
    return write_framework(before, after, WRITERS)


def _model(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if after.load_dtype != before.load_dtype:
        raise CannotEdit("torch_dtype decides the precision too")
    names = "quant_bits", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant"
    keys = {**bnb_keys(before, after, *names)}
    if keys:
        keys["quant_method"] = "bnb"
    new = new_adapter(before, after)
    if new is not None:
        name = "train_type" if "train_type" in before.trainer_facts.arguments else "tuner_type"
        keys.update({name: "lora"}, lora_rank=new.rank, lora_dropout=new.dropout)
        if new.alpha is not None:
            keys["lora_alpha"] = new.alpha
    return keys


def _attention(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if after.attention is None:
        raise CannotEdit("attn_impl has no word for the model's default")
    words = {"flash_attention_2": "flash_attn"}
    return {"attn_impl": words.get(after.attention, after.attention)}


WRITERS = {
    BATCH: batch_keys("per_device_train_batch_size"),
    ("seq_len",): size_key("max_length", "seq_len"),
    ("optimizer",): optimizer_key("optim"),
    ("activation_checkpointing", "checkpointing_reentrant"): checkpointing_key(
        "gradient_checkpointing"
    ),
    ("attention",): _attention,
    ("loss", "kernels"): liger_key("use_liger_kernel"),
    ("eval_micro_batch_size",): size_key("per_device_eval_batch_size", "eval_micro_batch_size"),
    ("adapter", "base_quantization", "load_dtype"): _model,
}

"""Plan fields in ms-swift's arguments: what a remedy changes, as flags or in a copy of its file."""

from __future__ import annotations

from typing import Any

from preflight.formats.edits import CannotEdit
from preflight.launch import LaunchPlan
from preflight.rewrite import Rewrite
from preflight.writers.draft import LaunchDraft
from preflight.writers.framework import (
    BATCH,
    batch_keys,
    count_key,
    optimizer_key,
    seq_len_key,
    write_framework,
)


def write_swift(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless ms-swift's arguments can say it."""
    return write_framework(before, after, WRITERS)


def _checkpointing(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    change = before.activation_checkpointing, after.activation_checkpointing
    if change not in (("none", "full"), ("full", "none")):
        raise CannotEdit("only none -> full and back is written")
    return {"gradient_checkpointing": after.activation_checkpointing == "full"}


def _model(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    new, quantized = after.adapter, after.base_quantization
    if new is None:
        raise CannotEdit("an adapter is not taken away")
    if after.load_dtype != before.load_dtype:
        raise CannotEdit("torch_dtype decides the precision too")
    if quantized != before.base_quantization:
        if quantized is None or before.base_quantization is not None:
            raise CannotEdit("only an unquantized base is quantized")
        keys.update(quant_method="bnb", quant_bits=8 if quantized.scheme == "int8" else 4)
        if quantized.scheme == "fp4":
            keys["bnb_4bit_quant_type"] = "fp4"
        if not quantized.double_quant and quantized.scheme != "int8":
            keys["bnb_4bit_use_double_quant"] = False
    if before.adapter != new:
        if before.adapter is not None or new.targets != "all-linear" or new.modules_to_save:
            raise CannotEdit("only a first adapter on all linear layers is written")
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


def _loss(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if after.loss != "fused_linear":
        raise CannotEdit("Liger's loss is the only other one")
    return {"use_liger_kernel": True}


WRITERS = {
    BATCH: batch_keys("per_device_train_batch_size"),
    ("seq_len",): seq_len_key("max_length"),
    ("optimizer",): optimizer_key("optim"),
    ("activation_checkpointing", "checkpointing_reentrant"): _checkpointing,
    ("attention",): _attention,
    ("loss", "kernels"): _loss,
    ("eval_micro_batch_size",): count_key("per_device_eval_batch_size", "eval_micro_batch_size"),
    ("adapter", "base_quantization", "load_dtype"): _model,
}

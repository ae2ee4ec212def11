"""Plan fields in axolotl's keys: what a remedy changes, written into a copy of its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.dialects.edits import REMOVE, CannotEdit
from preflight.dialects.framework_write import (
    BATCH,
    batch_keys,
    optimizer_key,
    seq_len_key,
    write_framework,
)
from preflight.dialects.launch_draft import LaunchDraft
from preflight.launch import LaunchPlan
from preflight.rewrite import Rewrite


def write_axolotl(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless axolotl's keys can say it."""
    return write_framework(before, after, WRITERS)


def _batch(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Mapping[str, Any]:
    """Return the batch keys; evaluation takes the micro batch where nothing else is said, and stays as it was."""
    keys = dict(batch_keys("micro_batch_size")(draft, before, after))
    path = draft.role("trainer")
    stated = path is not None and draft.document(path).get("eval_batch_size") is not None
    is_word = "eval_batch_size" in draft.source.facts.get("overrides", {})
    if after.eval_micro_batch_size is not None and not stated and not is_word:
        keys["eval_batch_size"] = after.eval_micro_batch_size
    return keys


def _checkpointing(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    change = before.activation_checkpointing, after.activation_checkpointing
    if change == ("full", "none"):
        return {"gradient_checkpointing": False}
    if change != ("none", "full"):
        raise CannotEdit("only none -> full and back is written")
    if before.offload_activations != "none":
        raise CannotEdit("activation_offloading takes recomputation's place")
    if after.checkpointing_reentrant not in (before.checkpointing_reentrant, False):
        raise CannotEdit("axolotl's checkpointing is not reentrant")
    return {"gradient_checkpointing": True}


def _reshard(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if before.engine != "fsdp2" or not isinstance(after.reshard_after_forward, bool):
        raise CannotEdit("axolotl's FSDP1 is always FULL_SHARD")
    path = draft.role("trainer")
    section = draft.document(path).get("fsdp_config") if path is not None else None
    prefixed = isinstance(section, Mapping) and "fsdp_reshard_after_forward" in section
    name = "fsdp_reshard_after_forward" if prefixed else "reshard_after_forward"
    return {f"fsdp_config.{name}": after.reshard_after_forward}


def _model(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    """Return the keys of adapter, quantized base and load dtype together: axolotl ties them."""
    keys: dict[str, Any] = {}
    new, quantized = after.adapter, after.base_quantization
    if new is None:
        raise CannotEdit("an adapter is not taken away")
    if quantized != before.base_quantization:
        if quantized is None or quantized.scheme != "nf4" or not quantized.double_quant:
            raise CannotEdit("axolotl's own quantization is NF4 with double quantization")
        keys["load_in_4bit"] = True
    if before.adapter is None or quantized is not None:
        keys["adapter"] = "qlora" if quantized is not None else "lora"
    if before.adapter != new:
        if before.adapter is not None or new.targets != "all-linear" or new.modules_to_save:
            raise CannotEdit("only a first adapter on all linear layers is written")
        keys.update(lora_r=new.rank, lora_dropout=new.dropout, lora_target_linear=True)
        keys["lora_alpha"] = new.alpha if new.alpha is not None else 2 * new.rank
    if before.load_dtype != after.load_dtype:
        if after.load_dtype != "bf16":
            raise CannotEdit("axolotl loads in the dtype that it trains in")
        keys["bf16"] = True
        if draft.role("trainer") and "fp16" in draft.document(str(draft.role("trainer"))).value:
            keys["fp16"] = REMOVE
    return keys


WRITERS = {
    BATCH: _batch,
    ("seq_len",): seq_len_key("sequence_len"),
    ("optimizer",): optimizer_key("optimizer"),
    ("activation_checkpointing", "checkpointing_reentrant"): _checkpointing,
    ("reshard_after_forward",): _reshard,
    ("adapter", "base_quantization", "load_dtype"): _model,
}

"""Plan fields in axolotl's keys: what a remedy changes, written into a copy of its config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.formats.edits import REMOVE, CannotEdit
from preflight.launch import LaunchPlan
from preflight.launchers.axolotl.activations import ATTENTION_FLAGS
from preflight.rewrite import Rewrite
from preflight.writers.draft import LaunchDraft
from preflight.writers.framework import (
    BATCH,
    batch_keys,
    new_adapter,
    optimizer_key,
    size_key,
    sync_key,
    write_framework,
)
from preflight.writers.sharding import (
    OFFLOAD_FIELDS,
    POLICY,
    SHARDING_FIELDS,
    STATE_DICTS,
    write_offload,
    write_sharding,
)


def write_axolotl(before: LaunchPlan, after: LaunchPlan) -> Rewrite | None:
    """Return the launch that gives the plan `after`; None unless axolotl's keys can say it."""
    return write_framework(before, after, WRITERS)


def _batch(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> Mapping[str, Any]:
    """Return the batch keys; evaluation takes the micro batch where nothing else is said, and stays as it was."""
    keys = dict(batch_keys("micro_batch_size")(draft, before, after))
    path = draft.role("trainer")
    stated = path is not None and draft.document(path).get("eval_batch_size") is not None
    is_word = "eval_batch_size" in draft.part.overrides
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
    return {"gradient_checkpointing": True}


def _sharding(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    """Return the keys of fsdp_config; ZeRO's stage stands in DeepSpeed's own file."""
    if before.engine != after.engine:
        if (before.engine, after.engine) == ("ddp", "fsdp2"):
            return _fsdp2(draft, after)
        write_sharding(draft, before, after)
        return {}
    keys: dict[str, Any] = {}
    if before.replicate_degree != after.replicate_degree:
        if after.replicate_degree != 1 or before.engine != "fsdp2":
            raise CannotEdit("only copies of shards are given up")
        degree = after.shard_degree // before.context_parallel_degree
        keys.update(dp_replicate_size=1, dp_shard_size=degree)
    if before.reshard_after_forward != after.reshard_after_forward:
        if before.engine != "fsdp2" or not isinstance(after.reshard_after_forward, bool):
            raise CannotEdit("axolotl's FSDP1 is always FULL_SHARD")
        keys[_fsdp_key(draft, "reshard_after_forward")] = after.reshard_after_forward
    if before.wrap_policy != after.wrap_policy:
        keys[_fsdp_key(draft, "auto_wrap_policy")] = POLICY
    return keys


def _fsdp2(draft: LaunchDraft, after: LaunchPlan) -> dict[str, Any]:
    """Return the keys that turn FSDP2 on in DDP's place."""
    if draft.role("trainer") is None or after.wrap_policy != "transformer":
        raise CannotEdit("fsdp_config is a section of the file")
    section = {
        "auto_wrap_policy": POLICY,
        "reshard_after_forward": bool(after.reshard_after_forward),
        "state_dict_type": STATE_DICTS[str(after.state_dict_type)],
        "cpu_ram_efficient_loading": bool(after.cpu_ram_efficient_loading),
    }
    if after.offload_params == "cpu":
        section["offload_params"] = True
    return {"fsdp_version": 2, **{f"fsdp_config.{name}": v for name, v in section.items()}}


def _fsdp_key(draft: LaunchDraft, name: str) -> str:
    """Return a key of fsdp_config, with the prefix that it has there now."""
    path = draft.role("trainer")
    section = draft.document(path).get("fsdp_config") if path is not None else None
    prefixed = isinstance(section, Mapping) and f"fsdp_{name}" in section
    return f"fsdp_config.{'fsdp_' if prefixed else ''}{name}"


def _offload(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if before.engine == "ddp" and after.is_fsdp:
        return {}  # written with the rest of fsdp_config
    if not before.is_fsdp:
        write_offload(draft, before, after)
        return {}
    if (before.offload_params, after.offload_params) != ("none", "cpu"):
        raise CannotEdit("only offloading to the host is written")
    return {_fsdp_key(draft, "offload_params"): True}


def _attention(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    """Return attn_implementation, and the older switches turned off: both together are refused."""
    path = draft.role("trainer")
    stated = draft.document(path).value if path is not None else {}
    old = {flag: False for flag in ATTENTION_FLAGS if stated.get(flag)}
    return {**old, "attn_implementation": after.attention}


def _loss(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if after.loss != "chunked_ce":
        raise CannotEdit("the other losses are plugins")
    return {"chunked_cross_entropy": True}


def _activations(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    if (
        after.offload_activations != "cpu"
        or before.adapter is not None
        or after.adapter is not None
    ):
        raise CannotEdit("under an adapter offloading takes recomputation's place")
    return {"activation_offloading": True}


def _model(draft: LaunchDraft, before: LaunchPlan, after: LaunchPlan) -> dict[str, Any]:
    """Return the keys of adapter, quantized base and load dtype together: axolotl ties them."""
    keys: dict[str, Any] = {}
    new, quantized = new_adapter(before, after), after.base_quantization
    if quantized != before.base_quantization:
        if quantized is None or quantized.scheme != "nf4" or not quantized.double_quant:
            raise CannotEdit("axolotl's own quantization is NF4 with double quantization")
        keys["load_in_4bit"] = True
    if before.adapter is None or quantized is not None:
        keys["adapter"] = "qlora" if quantized is not None else "lora"
    if new is not None:
        keys.update(lora_r=new.rank, lora_dropout=new.dropout, lora_target_linear=True)
        keys["lora_alpha"] = new.alpha if new.alpha is not None else 2 * new.rank
    if before.load_dtype != after.load_dtype:
        if after.load_dtype != "bf16" or after.mixed_precision != "bf16":
            raise CannotEdit("axolotl loads in the dtype that it trains in")
        keys["bf16"] = True
        if draft.role("trainer") and "fp16" in draft.document(str(draft.role("trainer"))).value:
            keys["fp16"] = REMOVE
    return keys


WRITERS = {
    BATCH: _batch,
    ("seq_len",): size_key("sequence_len", "seq_len"),
    ("optimizer",): optimizer_key("optimizer"),
    ("activation_checkpointing", "checkpointing_reentrant"): _checkpointing,
    SHARDING_FIELDS: _sharding,
    OFFLOAD_FIELDS: _offload,
    ("sync_each_batch",): sync_key,
    ("attention",): _attention,
    ("loss",): _loss,
    ("offload_activations",): _activations,
    ("eval_micro_batch_size",): size_key("eval_batch_size", "eval_micro_batch_size"),
    ("adapter", "base_quantization", "load_dtype"): _model,
}

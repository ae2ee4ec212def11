"""Compares a plan that preflight read with what the ranks of that launch got."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness import Launched

TOLD_BY_PROBE = (
    "engine",
    "world_size",
    "shard_degree",
    "replicate_degree",
    "reshard_after_forward",
    "wrap_policy",
    "offload_params",
    "offload_optimizer",
    "load_dtype",
    "mixed_precision",
    "micro_batch_size",
    "seq_len",
    "gradient_accumulation_steps",
    "activation_checkpointing",
    "attention",
)


def differences(plan: Mapping[str, Any], launched: Launched) -> list[str]:
    """Return `field: plan says X, ranks got Y` for every field in which they differ."""
    seen = launched.plan_seen
    plan = {**plan, "load_dtype": built_dtype(plan)}
    found = [
        f"{name}: plan says {plan[name]!r}, ranks got {seen[name]!r}"
        for name in TOLD_BY_PROBE
        if name in seen and plan[name] != seen[name] and not is_unclaimed(name, plan[name])
    ]
    if (plan["adapter"] is None) != (seen["adapter"] is None):
        found.append(f"adapter: plan says {plan['adapter']!r}, ranks got {seen['adapter']!r}")
    elif plan["adapter"] is not None:
        found.extend(
            f"adapter.{name}: plan says {plan['adapter'][name]!r}, ranks got {value!r}"
            for name, value in seen["adapter"].items()
            if plan["adapter"][name] is not None and unordered(plan["adapter"][name]) != value
        )
    has_full_logits = launched.ranks[0]["has_full_logits"]
    if plan["loss"] is not None and (plan["loss"] == "full_logits") != has_full_logits:
        found.append(f"loss: plan says {plan['loss']!r}, full logits: {has_full_logits}")
    group_sizes = {rank["group_size"] for rank in launched.ranks}
    if group_sizes != {plan["world_size"]}:
        found.append(f"process groups of {group_sizes}, not {plan['world_size']}")
    if len(launched.ranks) != plan["world_size"]:
        found.append(f"{len(launched.ranks)} ranks trained, not {plan['world_size']}")
    return found


def built_dtype(plan: Mapping[str, Any]) -> str | None:
    """Return the dtype of a model that was just built: under ZeRO-3, zero.Init makes it the engine's."""
    if plan["engine"] == "zero3" and plan["mixed_precision"] in ("bf16", "fp16"):
        return str(plan["mixed_precision"])
    return None if plan["load_dtype"] is None else str(plan["load_dtype"])


def is_unclaimed(name: str, value: object) -> bool:
    """Tell whether a plan leaves a field open: a script's own code decides it, or the checkpoint."""
    return value in (None, "auto") and name in ("load_dtype", "attention")


def unordered(value: Any) -> Any:
    """Return a list of names sorted, as the probe gives it; anything else unchanged."""
    return sorted(value) if isinstance(value, (list, tuple)) else value


def sharding_differences(report: Mapping[str, Any], launched: Launched) -> list[str]:
    """Return where the elements that ranks hold are not what the plan's sharding makes of the model."""
    plan, model = report["plan"], report["model"]
    degree = plan["shard_degree"]
    trainable = model["num_trainable_params"]
    found = []
    if plan["engine"] in ("fsdp2", "zero3"):
        whole = {rank["num_params"] for rank in launched.ranks}
        adapter = trainable if plan["adapter"] else 0
        if whole != {model["num_params"] + adapter}:
            found.append(f"parameters: {model['num_params']} + {adapter} read, {whole} there")
    if plan["engine"] in ("fsdp1", "fsdp2", "zero3"):
        here = sum(rank["num_params_here"] for rank in launched.ranks) / plan["replicate_degree"]
        padded = model["num_params"] + (trainable if plan["adapter"] else 0)
        if not padded <= here <= padded * 1.01:
            found.append(f"the shards add up to {here}, the model has {padded}")
    states = sum(rank["num_optimizer_states_here"] for rank in launched.ranks)
    copies = plan["world_size"] // degree
    if not trainable * copies <= states <= trainable * copies * 1.01:
        found.append(f"{states} optimizer states, not {copies} times {trainable}")
    return found

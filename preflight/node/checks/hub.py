"""PF510, PF511, PF520: whether the ranks can get the model: from the cache, or from the hub with a token and room."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from preflight.finding import Finding
from preflight.findings import found
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.models.hub_cache import (
    HUB_ID,
    cache_folder,
    find_snapshot,
    has_token,
    is_offline,
    missing_weights,
)
from preflight.node.checks.disk import why_not_writable
from preflight.node.limits import space_at
from preflight.node.this_node import environment
from preflight.units import dtype_bytes, format_gib


def findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterator[Finding]:
    """Look for the model's snapshot, and for what a download needs."""
    name = plan.model
    if name is None or plan.command is None or not HUB_ID.fullmatch(name):
        return
    if os.path.isdir(plan.resolve(name)) or plan.trainer_facts.given("cache_dir") is not None:
        return
    if str(plan.trainer_facts.value("model_revision", "main")) != "main":
        return
    env = environment(plan)
    origin = plan.origins.get("model")
    where = origin.where if origin is not None else ""
    snapshot = find_snapshot(name, env)
    missing = None if snapshot is None else missing_weights(snapshot)
    if missing == ():
        return
    offline = is_offline(env)
    folder = cache_folder(env)
    if offline is not None:
        what = f"no snapshot of {name} in {folder}"
        if missing:
            what = f"the snapshot of {name} in {folder} lacks {missing[0]}"
            what += f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield found(
            "PF510",
            f"{what}, and {offline} forbids to download it",
            where,
            f"hf download {name} on a node with a network, with the same HF_HOME",
        )
        return
    yield from _gated(name, env, where)
    reason = why_not_writable(folder)
    if reason:
        yield found(
            "PF520",
            f"{name} is not in the cache, and the cache cannot be written: {reason}",
            "$HF_HOME",
            "HF_HOME=a folder that can be written, or download the model first",
        )
        return
    space = space_at(folder)
    size = 0 if model is None else model.num_params * dtype_bytes(model.config_dtype or "bf16")
    if space is not None and size > space.free_bytes:
        yield found(
            "PF520",
            f"{name} takes {format_gib(size)}, and {space.path} has {format_gib(space.free_bytes)} free",
            "$HF_HOME",
            "HF_HOME=a folder with more room",
        )


def _gated(name: str, env: Mapping[str, str], where: str) -> Iterator[Finding]:
    from preflight.models.registry import find_model

    entry = find_model(name)
    # An alias is a copy, which its owner may have opened.
    if entry is None or not entry.is_gated or entry.id.lower() != name.lower() or has_token(env):
        return
    yield found(
        "PF511",
        f"{name} is gated, it is not in the cache, and no token is found",
        where,
        "hf auth login, or HF_TOKEN=..., of an account that the owner has let in",
    )

"""The open values of a plan: what each may be, and the plan with one value for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.plan_choices import DIVIDES_NOTHING

Values = Mapping[str, Any]
"""Open field -> a value of it."""


def open_values(plan: LaunchPlan) -> dict[str, tuple[Any, ...]]:
    """Return every open field with the values that it may have, the plan's own first; of a range its two ends."""
    return {
        name: origin.may_be
        if origin.is_range
        else (getattr(plan, name), *(v for v in origin.may_be if v != getattr(plan, name)))
        for name, origin in plan.origins.items()
        if origin.may_be and not (origin.is_range and getattr(plan, name) is not None)
    }


def filled_in(plan: LaunchPlan, values: Values) -> LaunchPlan | None:
    """Return the plan with its open fields settled; None where no launch can have these values together."""
    is_packed = values.get("base_quantization", plan.base_quantization) is not None
    if is_packed and values.get("adapter", plan.adapter) is None:
        return None  # a packed base cannot be trained itself
    by_release: dict[str, Any] = {}
    for other in plan.version_readings:
        if other.versions == values.get("versions"):
            by_release.update(other.fields)
    edits = {**by_release, **values}
    for name in values:
        if plan.origins[name].is_range and by_release.get(name) is not None:
            # A release that has a default of its own leaves nothing open.
            edits[name] = by_release[name]
    changed = [
        n for n in ("engine", "world_size") if values.get(n, getattr(plan, n)) != getattr(plan, n)
    ]
    if changed:
        engine = values.get("engine", plan.engine)
        ranks = values.get("world_size", plan.world_size)
        if engine == "single" and ranks > 1:
            engine = edits["engine"] = "ddp"
        edits.update(degrees_of(engine, ranks))
        if engine in DIVIDES_NOTHING and plan.engine_facts.fsdp_checkpoints:
            edits["activation_checkpointing"] = "none"  # FSDP's own, not the trainer's
    try:
        return plan.with_edits(edits)
    except BadInput:
        return None


def degrees_of(engine: str, ranks: int) -> dict[str, Any]:
    """Return how an engine of which nothing else is said divides the model: over all ranks, or not at all."""
    if engine in DIVIDES_NOTHING:
        whole = {"shard_degree": 1, "replicate_degree": 1}
        return {**whole, "offload_params": "none", "offload_optimizer": "none"}
    degrees: dict[str, Any] = {"shard_degree": ranks, "replicate_degree": 1}
    if engine in ("fsdp1", "fsdp2"):
        degrees["reshard_after_forward"] = True
    return degrees

"""Which dtype each model state has, and which parameters train: the rule of engine, optimizer and version."""

from __future__ import annotations

from preflight.launch import LaunchPlan
from preflight.model import ModelSpec


def missing_inputs(plan: LaunchPlan, model: ModelSpec | None) -> tuple[str, ...]:
    """Return the plan fields without which no estimate is an answer."""
    names = []
    if model is None:
        names.append("model")
    for name in ("micro_batch_size", "seq_len"):
        if getattr(plan, name) is None:
            names.append(name)
    return tuple(names)


def num_trainable_params(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the parameters that get gradients, over the whole model."""
    return model.num_params

"""PF204: FSDP2's own activation checkpointing with active dropout computes wrong gradients.

accelerate wraps layers with `checkpoint_wrapper(layer, preserve_rng_state=False)` under FSDP2
(accelerate/utils/fsdp_utils.py:720, 1.15.0). The recomputation then draws other dropout masks than
the forward did, and no library says so. The trainer's own checkpointing restores the random state
and saves as much. Any dropout counts: attention_dropout and the like of the model, lora_dropout of
the adapter.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.layers.checkpointing import is_launchers_own
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Refuse to be silent about dropout inside FSDP2's own checkpointing."""
    if plan.engine != "fsdp2" or not is_launchers_own(plan):
        return
    origin = plan.origins.get("activation_checkpointing")
    where = origin.where if origin else ""
    active = dict(model.dropouts) if model is not None else {}
    if plan.adapter is not None and plan.adapter.dropout > 0:
        active["lora_dropout"] = plan.adapter.dropout
    if active:
        named = ", ".join(f"{name} {value:g}" for name, value in sorted(active.items()))
        yield found(
            "PF204",
            f"fsdp_activation_checkpointing under FSDP2 draws other dropout masks when it recomputes"
            f" ({named}): gradients are wrong, and nothing says so",
            where,
            "fsdp_activation_checkpointing: false, and the trainer's own --gradient_checkpointing true",
        )

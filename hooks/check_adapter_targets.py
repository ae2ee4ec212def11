"""PF405: an adapter without target modules on an architecture that PEFT has no default for.

PEFT stops in every worker with "Please specify `target_modules` in `peft_config`"
(peft/tuners/tuners_utils.py, 0.21.2). The estimate assumes all linear layers.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.precision import PEFT_DEFAULT_TARGETS, peft_model_type


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Name the architecture that needs explicit targets."""
    if plan.adapter is None or plan.adapter.targets is not None or model is None:
        return
    kind = peft_model_type(model)
    if kind in PEFT_DEFAULT_TARGETS:
        return
    origin = plan.origins.get("adapter")
    yield found(
        "PF405",
        f"PEFT has no default target modules for {kind}: every worker stops when the adapter is made",
        origin.where if origin else "",
        "--lora_target_modules all-linear, or the names of the layers to adapt",
    )

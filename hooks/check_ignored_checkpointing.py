"""PF446: gradient checkpointing that the model's class takes and does not do.

Starcoder2 in transformers 4.48 to 4.51 and GPTBigCode in 4.54 to 4.57 run their layers without it, and every
activation is kept. The estimate counts them so (preflight/formulas/layers/checkpointing.py).
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.layers.checkpointing import IGNORES_CHECKPOINTING, as_its_class_runs
from preflight.formulas.trainer_arguments import where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Say that a release of transformers keeps every activation of this model whatever the launch asks for."""
    if model is None or as_its_class_runs(plan, model) is plan:
        return
    ignores = IGNORES_CHECKPOINTING[model.model_type]
    yield found(
        "PF446",
        f"{model.model_type} of transformers {ignores.since} and newer, before {ignores.until}, takes gradient checkpointing"
        " and keeps every activation: the estimate counts them all",
        where_of(plan, "activation_checkpointing"),
        f"transformers {ignores.until} or newer, or FSDP's own fsdp_activation_checkpointing",
    )

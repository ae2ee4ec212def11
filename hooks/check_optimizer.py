"""PF406: an optimizer whose states are not known.

It is estimated as Adam: two states per trained parameter, in the dtype of the weights or fp32.
`--set optimizer=adafactor`, or any other of the Trainer's names, takes another one for the estimate.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.optimizers import NUM_STATES
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.near_names import nearest_fix


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Name an optimizer that is estimated as if it were Adam."""
    known = (*NUM_STATES, "adafactor")
    if plan.optimizer in known:
        return
    origin = plan.origins.get("optimizer")
    yield found(
        "PF406",
        f"optimizer {plan.optimizer} is not known: two states per parameter are assumed",
        origin.where if origin else "",
        nearest_fix(plan.optimizer, known),
    )

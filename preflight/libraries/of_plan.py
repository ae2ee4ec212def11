"""The versions that a plan may have which somebody wrote down, and in which nobody says them."""

from __future__ import annotations

from dataclasses import replace

from preflight.launch import LaunchPlan, Origin
from preflight.libraries.candidates import unlike, version_sets
from preflight.plan_choices import HF_TRAINERS


def with_open_versions(plan: LaunchPlan) -> LaunchPlan:
    """Return a plan that no reader made with its versions open, where it names a trainer and none of its libraries."""
    is_said = bool(plan.versions) or "versions" in plan.origins
    if plan.is_read or is_said or plan.trainer not in HF_TRAINERS:
        return plan
    names = ["torch", "transformers", "accelerate"]
    names += ["trl"] if plan.trainer == "trl" else []
    names += ["peft"] if plan.adapter is not None else []
    names += ["deepspeed"] if plan.engine.startswith("zero") else []
    sets = unlike([{n: one[n] for n in names if n in one} for one in version_sets({}, {})])
    reason = "the plan does not say its versions"
    taken = replace(plan, versions=sets[-1])
    return taken.with_origin("versions", Origin("nobody", True, reason, tuple(reversed(sets))))

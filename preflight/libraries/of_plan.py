"""The versions that a plan may have: of one that somebody wrote down, and of one whose model not every release knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.errors import Problem
from preflight.launch import LaunchPlan, Origin
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.versions.spans import knows_type

LACKS = "PF151"
"""What a release does not have that the launch asks for."""
WITHOUT_CODE = ("Qwen", "google", "meta-llama", "mistralai", "openai", "HuggingFaceTB")
"""Owners whose models of the types that later releases brought have no code of their own beside the weights, which older
releases would run: those of OpenGVLab or deepseek-ai have."""


def with_open_versions(plan: LaunchPlan) -> LaunchPlan:
    """Return a plan that no reader made with its versions open, where it names a trainer and none of its libraries."""
    is_said = bool(plan.versions) or "versions" in plan.origins
    if plan.is_read or is_said or plan.trainer not in HF_TRAINERS:
        return plan
    from preflight.libraries.candidates import unlike, version_sets  # for few plans

    names = ["torch", "transformers", "accelerate"]
    names += ["trl"] if plan.trainer == "trl" else []
    names += ["peft"] if plan.adapter is not None else []
    names += ["bitsandbytes"] if plan.base_quantization is not None else []
    names += ["deepspeed"] if plan.engine.startswith("zero") else []
    sets = unlike([{n: one[n] for n in names if n in one} for one in version_sets({}, {})])
    reason = "the plan does not say its versions"
    taken = replace(plan, versions=sets[-1])
    return taken.with_origin("versions", Origin("nobody", True, reason, tuple(reversed(sets))))


def with_releases_that_know(plan: LaunchPlan, model: ModelSpec) -> LaunchPlan:
    """Return a plan without the versions that it cannot have: releases of transformers before its model's type.

    Where the only one that is said is such a release, as a pin of an older model's days is, what runs is not known. A config that names code of its own (`auto_map`) may be older than the type, and so may a model that only has the
    shapes of another one.
    """
    model_type = model.config.get("model_type")
    is_other = model.like is not None
    origin = plan.origins.get("versions")
    if origin is None or is_other or "auto_map" in model.config or not isinstance(model_type, str):
        return plan

    def knows(versions: Mapping[str, str]) -> bool:
        version = versions.get("transformers")
        return version is None or knows_type(version, model_type)

    if not knows(plan.versions):
        return _with_release_that_does_not(plan, model_type, origin)
    may_be = tuple(versions for versions in origin.may_be if knows(versions))
    if len(may_be) == len(origin.may_be):
        return plan
    readings = tuple(each for each in plan.version_readings if knows(each.versions))
    reason = f"{origin.reason.partition(': ')[0]}, but that it knows {model_type}"
    open_still = replace(origin, may_be=may_be, reason=reason)
    return replace(plan, version_readings=readings).with_origin("versions", open_still)


def _with_release_that_does_not(plan: LaunchPlan, model_type: str, origin: Origin) -> LaunchPlan:
    """Return a plan with the notice that the release of transformers which is said stops where it loads the model."""
    is_theirs = str(plan.model).partition("/")[0] in WITHOUT_CODE
    is_said = any(each.id == LACKS for each in plan.notices)
    if plan.trainer not in HF_TRAINERS or not is_theirs or is_said:
        return plan
    version = plan.versions["transformers"]
    message = f"transformers {version} does not know {model_type} yet, and stops where it loads {plan.model}"
    where = plan.origins.get("versions.transformers", origin).where
    fix = "a newer transformers, or --set versions.transformers=VERSION where it has one"
    unpriced = f"a release of transformers that knows {model_type}"
    notice = Problem.left_out(message, where, unpriced, "either", fix, LACKS)
    return replace(plan, notices=(*plan.notices, notice))

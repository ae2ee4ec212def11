"""How sure a finding is: an error is one in every reading of the launch, under every release that it may have.

A check speaks of the plan as it stands. Where the plan has a value that nobody said, that was read from a name which
only looks like the trainer's, or that a release decides which nobody named, the check that found an error is asked
again without it; what is not found then is a warning that says on what it rests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from preflight.finding import Finding
from preflight.launch import PLAN_FIELDS, LaunchPlan, plain
from preflight.model import ModelSpec
from preflight.open_values import filled_in, open_values
from preflight.plugin_manager import PluginManager
from preflight.readings import moved_library

OLDEST_RELEASE = "0.1"
"""Older than what any check speaks of."""
OF_A_NODE = "PF5"
"""Ids of what a node has and lacks, which no reading of the launch changes."""

ABOUT_MODULES = ("PF206", "PF405", "PF421", "PF423")
"""Ids of what is said of the names of a model's modules."""

Found = tuple[str, Finding]
"""The plugin that found something, and what."""


def as_sure_as_the_plan(
    found: Sequence[Found], plugins: PluginManager, asked: Mapping[str, Any]
) -> list[Finding]:
    """Return findings with those errors as warnings that do not hold in every reading of the plan."""
    errors = [each for each in found if _may_rest_on_more(each[1])]
    if not errors:
        return [finding for _, finding in found]
    rests_on: dict[str, str] = {}
    owners = dict.fromkeys(owner for owner, _ in errors)
    others = [(because, {"plan": plan}) for because, plan in other_readings(asked["plan"])]
    for because, changed in (*others, *_other_models(asked["plan"], asked["model"])):
        ids = {
            each.id
            for owner in owners
            for each in plugins.collect_from(owner, "preflight_findings", **{**asked, **changed})
            if isinstance(each, Finding) and each.severity == "error"
        }
        for _, finding in errors:
            is_asked = "plan" in changed or finding.id in ABOUT_MODULES
            if is_asked and finding.id not in ids:
                rests_on.setdefault(finding.id, because)
    return [_softened(finding, rests_on.get(finding.id, "")) for _, finding in found]


def _may_rest_on_more(finding: Finding) -> bool:
    is_ours = finding.id.startswith("PF") and not finding.id.startswith(OF_A_NODE)
    return finding.severity == "error" and is_ours


def _softened(finding: Finding, because: str) -> Finding:
    if not because or finding.severity != "error":
        return finding
    return replace(finding, severity="warning", message=f"{finding.message} (if {because})")


def other_readings(plan: LaunchPlan) -> Iterator[tuple[str, LaunchPlan]]:
    """Yield the plan with one uncertain value changed at a time, and what it rests on as it stands."""
    for name, values in open_values(plan).items():
        for value in values[1:]:
            filled = filled_in(plan, {name: value})
            if filled is None:
                continue
            if name == "versions":
                library = moved_library([plan.versions, value])
                yield _named(library, plan.versions[library]), filled
            else:
                yield f"{name} is {_word(getattr(plan, name))}, which nobody said", filled
    nothing = LaunchPlan()
    for name in _fields(plan.script_facts.inferred):
        yield (
            f"{plan.origins[name].where} means {name} here" if name in plan.origins else name,
            replace(plan, **{name: getattr(nothing, name)}),
        )
    trainer = plan.origins.get("trainer")
    if trainer is not None and trainer.assumed:
        yield (
            f"the script trains with {plan.trainer}, which was not seen",
            replace(plan, trainer=None),
        )
    for library, version in plan.versions.items() if not plan.version_readings else ():
        origin = plan.origins.get(f"versions.{library}")
        if origin is not None and origin.assumed:
            for other in origin.may_be or (OLDEST_RELEASE,):
                versions = {**plan.versions, library: str(other)}
                yield _named(library, version), replace(plan, versions=versions)


def _other_models(
    plan: LaunchPlan, model: ModelSpec | None
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield no model where its modules may have other names: it is known by its size, or something may change them."""
    if model is None:
        return
    if model.like is not None:
        yield f"its modules are those of {model.like.model}", {"model": None}
    for notice in plan.notices:
        if notice.unpriced and notice.takes not in ("more", "less"):
            yield f"{notice.unpriced} leaves its modules as they are", {"model": None}


def _named(library: str, version: str) -> str:
    return f"{library} is {version}, which nobody named"


def _fields(names: Iterable[str]) -> list[str]:
    return [name for name in names if name in PLAN_FIELDS]


def _word(value: object) -> str:
    shown = plain(value)
    return "none" if shown is None else str(shown) if not isinstance(shown, dict) else "given"

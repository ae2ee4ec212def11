"""The catalogue of findings: what each id means, when it fires, and how it was proved.

One module per hundred: `launch` (PF1xx, with `framework` for PF14x), `fsdp` (PF2xx), `deepspeed` (PF3xx), `training` (PF4xx),
`node` (PF5xx). A check makes its finding with `found(ID, message, ...)`, which takes name and
severity from here; `preflight explain ID` prints the entry, docs/findings.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from preflight.errors import Problem
from preflight.finding import Finding
from preflight.findings.kind import FindingKind

AREAS = {"1": "launch", "2": "fsdp", "3": "deepspeed", "4": "training", "5": "node"}
"""First digit of an id -> the module that has its entry."""


def kind_of(id: str) -> FindingKind | None:
    """Return the entry of an id, None where there is none."""
    area = AREAS.get(id[2:3])
    if area is None:
        return None
    kinds: Mapping[str, FindingKind] = import_module(f"preflight.findings.{area}").KINDS
    return kinds.get(id)


def all_kinds() -> dict[str, FindingKind]:
    """Return every entry, in the order of the ids."""
    kinds: dict[str, FindingKind] = {}
    for area in AREAS.values():
        kinds.update(import_module(f"preflight.findings.{area}").KINDS)
    return dict(sorted(kinds.items()))


def found(
    id: str,
    message: str,
    where: str = "",
    fix: str = "",
    edits: Mapping[str, Any] | None = None,
    severity: str | None = None,
) -> Finding:
    """Make a finding with the name and the severity of its entry.

    `severity` is for a check that knows this case to be milder or worse than the usual one.
    """
    kind = kind_of(id)
    assert kind is not None, f"{id} is not in the catalogue"
    return Finding(id, kind.name, severity or kind.severity, message, where, fix, edits or {})


def noticed(problem: Problem) -> Finding:
    """Turn what a reader noticed into a finding."""
    kind = kind_of(problem.id)
    return Finding(
        problem.id or "PF100",
        kind.name if kind is not None else "",
        problem.severity,
        problem.message,
        problem.where,
        problem.fix,
    )

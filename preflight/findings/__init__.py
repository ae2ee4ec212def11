"""The catalogue of findings: what each id means, when it fires, and how it was proved.

One table per hundred beside this file: launch.json (PF1xx), fsdp.json (PF2xx), deepspeed.json (PF3xx), training.json (PF4xx)
and node.json (PF5xx), each in the order of the ids. A check makes its finding with `found(ID, message, ...)`, which takes
name and severity from there; `preflight explain ID` prints the entry, docs/findings.md lists all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from preflight.errors import Problem
from preflight.finding import Finding
from preflight.own_tables import beside, read_table
from preflight.values import dataclass

AREAS = {"1": "launch", "2": "fsdp", "3": "deepspeed", "4": "training", "5": "node"}
"""First digit of an id -> the table that has its entry."""


@dataclass(frozen=True)
class FindingKind:
    """What an id means. The text is the manual page: full sentences, sources in brackets."""

    name: str
    """Kebab-case, for people: `ignored-key`."""
    severity: str
    """The usual one: `error` (a library refuses, or training is wrong), `warning`, `info`."""
    proof_kind: str
    """`refusal` (a library stops with its own error), `silent` (it goes on, and the effect is
    measured), `node` (a fact of this machine), `reading` (what preflight itself can or cannot see)."""
    trigger: str
    """Exactly when it fires."""
    effect: str
    """The library's own error with its place in the source, or what happens without a word."""
    fix: str
    proof: tuple[str, ...]
    """The tests that prove the effect: `tests/hooks/test_x.py::test_y`."""
    versions: str = ""
    """The library versions that behave so, where it is not all of them."""

    def page(self, id: str) -> str:
        """Return the manual page."""
        rows = [
            ("When", self.trigger),
            ("Effect", self.effect),
            ("Fix", self.fix),
            ("Versions", self.versions),
            ("Ignore", f'`# preflight: ignore {id}` on the line, or ignore = ["{id}"] in a policy'),
            ("Proved", ", ".join(self.proof)),
        ]
        lines = [f"{id} {self.name} ({self.severity})", ""]
        lines += [f"{label.ljust(9)} {text}" for label, text in rows if text]
        return "\n".join(lines)


@cache
def kinds_of(area: str) -> Mapping[str, FindingKind]:
    """Return the entries of one of the areas, by id."""
    table: Mapping[str, Any] = read_table(beside(__file__, f"{area}.json"))
    return {id: FindingKind(**{**row, "proof": tuple(row["proof"])}) for id, row in table.items()}


def kind_of(id: str) -> FindingKind | None:
    """Return the entry of an id, None where there is none."""
    area = AREAS.get(id[2:3])
    return None if area is None else kinds_of(area).get(id)


def all_kinds() -> dict[str, FindingKind]:
    """Return every entry, in the order of the ids."""
    return {id: kind for area in AREAS.values() for id, kind in kinds_of(area).items()}


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

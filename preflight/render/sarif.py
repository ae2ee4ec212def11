"""Reports as SARIF 2.1.0, the format that code review takes: a result per verdict and per finding, at its line.

Source: Static Analysis Results Interchange Format 2.1.0, OASIS, 2020-03-27; GitHub shows results
that have a location, and takes `error`, `warning` and `note`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from preflight.errors import Problem
from preflight.finding import Finding
from preflight.lazy_pattern import lazy_pattern
from preflight.notebooks import is_notebook
from preflight.render.page import Page
from preflight.render.readings import reading_cells
from preflight.render.report import head_lines
from preflight.report import Report
from preflight.verdict import Answer
from preflight.version import __version__

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
VERDICT_LEVELS = {
    Answer.DOES_NOT_FIT: "error",
    Answer.TIGHT: "warning",
    Answer.UNKNOWN: "note",
    Answer.FITS: "none",
}
VERDICTS = {
    "does-not-fit": "A rank of this launch needs more memory than its device has.",
    "tight": "This launch fits only while the allocator loses little.",
    "unknown": "Whether this launch fits is not known.",
    "fits": "This launch fits.",
    "not-readable": "A launch, or a file that it names, cannot be read.",
}
PLACE = lazy_pattern(r"([^\s,:][^,:]*?):(\d+)")


class Log:
    """Collects results and the rules that they need."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._rules: dict[str, dict[str, Any]] = {}
        self._results: list[dict[str, Any]] = []

    def add_report(self, report: Report, where: str) -> None:
        """Add the verdict of a launch, at the place where it stands, and its findings at theirs."""
        answer = report.verdict.answer
        rule = answer.value.replace("_", "-")
        lines = [head_lines(report, Page())[0].removeprefix("preflight: ")]
        lines += [
            f"{name} {value}: {least} to {most}, {told}"
            for name, value, least, most, told in reading_cells(report)
        ]
        self._add(rule, VERDICTS[rule], VERDICT_LEVELS[answer], "\n".join(lines), where, where)
        for finding in report.findings:
            self._add_finding(finding, where)

    def add_problems(self, problems: Iterable[Problem], where: str) -> None:
        """Add what could not be read."""
        for problem in problems:
            text = f"{problem.message}\n{problem.fix}" if problem.fix else problem.message
            rule = problem.id or "not-readable"
            level = LEVELS.get(problem.severity, "error")
            self._add(rule, _about(rule), level, text, problem.where, where)

    def to_dict(self) -> dict[str, Any]:
        """Return the log."""
        driver = {
            "name": "preflight",
            "version": __version__,
            "semanticVersion": __version__,
            "rules": list(self._rules.values()),
        }
        run = {
            "tool": {"driver": driver},
            "columnKind": "unicodeCodePoints",
            "results": self._results,
        }
        return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}

    def _add_finding(self, finding: Finding, where: str) -> None:
        text = f"{finding.message}\n{finding.fix}" if finding.fix else finding.message
        rule = finding.id or finding.name
        about = _about(rule) or finding.name
        self._add(rule, about, LEVELS.get(finding.severity, "note"), text, finding.where, where)

    def _add(self, rule: str, about: str, level: str, text: str, place: str, launch: str) -> None:
        if level == "none":
            return  # nothing that a reviewer has to see
        named = {"id": rule, "shortDescription": {"text": about or rule}}
        self._rules.setdefault(rule, named)
        result: dict[str, Any] = {
            "ruleId": rule,
            "ruleIndex": list(self._rules).index(rule),
            "level": level,
            "message": {"text": text},
        }
        locations = self._locations(place) or self._locations(launch)
        if locations:
            result["locations"] = locations[:1]
            if locations[1:]:
                result["relatedLocations"] = locations[1:]
        # Several launches of one file that read the same config have one mistake.
        if result not in self._results:
            self._results.append(result)

    def _locations(self, text: str) -> list[dict[str, Any]]:
        """Return every `path:line` of a text that is a file here."""
        found = []
        for path, line in PLACE.findall(text):
            absolute = os.path.join(self._folder, path)
            if os.path.isfile(absolute):
                uri = os.path.relpath(absolute, self._folder).replace(os.sep, "/")
                # The number is a cell's in a notebook, whose lines are no lines of the file.
                region = {"startLine": 1 if is_notebook(path) else max(1, int(line))}
                physical = {"artifactLocation": {"uri": uri}, "region": region}
                found.append({"physicalLocation": physical})
        return found


def _about(rule: str) -> str:
    from preflight.findings import all_kinds

    kind = all_kinds().get(rule)
    if kind is not None:
        return f"{kind.name}: {kind.trigger}"
    return VERDICTS.get(rule, "")

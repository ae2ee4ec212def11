"""What a scan found, as text and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from preflight.render.page import Page
from preflight.render.problems import problem_lines
from preflight.render.report import finding_lines, head_lines
from preflight.report import SCHEMA_VERSION
from preflight.studies.scan import ScannedLaunch


def scan_lines(
    launches: Sequence[ScannedLaunch], page: Page, is_verbose: bool = False
) -> list[str]:
    """Return a line per launch, what is wrong with it below, and what that means."""
    refused = sum(launch.is_refused for launch in launches)
    lines: list[str] = []
    for launch in launches:
        lines += _launch_lines(launch, page, is_verbose)
    if not launches:
        return ["preflight: no launch in these files", "next: nothing"]
    count = f"{len(launches)} launch{'es' if len(launches) > 1 else ''}"
    if refused:
        return [
            *lines,
            f"next: {refused} of {count} refused; `preflight check -- COMMAND` has the whole report",
        ]
    return [*lines, f"next: nothing; {count} checked"]


def _launch_lines(launch: ScannedLaunch, page: Page, is_verbose: bool) -> list[str]:
    if launch.untold:
        return [f"{launch.where}: not checked: {launch.untold}"]
    if launch.report is None:
        return problem_lines(launch.problems, launch.where)
    head = head_lines(launch.report, page)[0].replace("preflight", launch.where, 1)
    lines = [head]
    for finding in launch.report.findings:
        if finding.severity == "error" or (is_verbose and finding.severity == "warning"):
            lines += [f"  {line}" for line in finding_lines(finding, page)]
    return lines


def scan_to_dict(launches: Sequence[ScannedLaunch]) -> dict[str, Any]:
    """Return a scan as JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "num_refused": sum(launch.is_refused for launch in launches),
        "launches": [
            {
                "where": launch.where,
                "argv": list(launch.argv),
                "is_refused": launch.is_refused,
                "untold": launch.untold,
                "problems": [
                    {"message": p.message, "where": p.where, "fix": p.fix, "id": p.id}
                    for p in launch.problems
                ],
                "report": None if launch.report is None else launch.report.to_dict(),
            }
            for launch in launches
        ],
    }

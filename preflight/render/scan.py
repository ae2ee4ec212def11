"""What a scan found, as text and as JSON."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import Any

from preflight.render.page import Page
from preflight.render.problems import problem_lines
from preflight.render.report import finding_lines, head_lines
from preflight.report import SCHEMA_VERSION
from preflight.repository.settings import OWN_FILE
from preflight.shell.starters.launcher_options import only_shell_knows
from preflight.studies.scan import SHELL_KNOWS, ScannedLaunch, is_unjudged
from preflight.verdict import Answer

FEW = 3
"""Launches that were not checked, up to which the lines above say enough; and reasons that a summary names."""
JOB_ENDINGS = (".slurm", ".sbatch")
SHOWN_LEFT_OUT = 5
"""Files that were not looked into, named in a line; the rest are counted."""


NOT_JUDGED = (
    f'nothing was judged: no device is known; --device NAME, or device = "NAME" in {OWN_FILE}'
)
"""What is said where scan ends with exit code 2 although nothing it read is wrong."""


def scan_lines(
    launches: Sequence[ScannedLaunch],
    page: Page,
    is_verbose: bool,
    left_out: Sequence[str],
) -> list[str]:
    """Return a line per launch, what is wrong with it below, how many got which answer, and what that means."""
    lines: list[str] = []
    for launch in launches:
        lines += _launch_lines(launch, page, is_verbose)
    if not launches:
        lines.append("preflight: no launch in these files")
    else:
        lines += page.wrap(f"preflight: {_counted(len(launches))}: {_answers(launches)}")
    if left_out:
        named = ", ".join(left_out[:SHOWN_LEFT_OUT])
        more = (
            "" if len(left_out) <= SHOWN_LEFT_OUT else f" and {len(left_out) - SHOWN_LEFT_OUT} more"
        )
        lines += page.wrap(f"note: not looked into, too large, too deep or too many: {named}{more}")
    return [*lines, f"next: {_next(launches)}"]


def _answers(launches: Sequence[ScannedLaunch]) -> str:
    """Return how many launches got which answer, and of many that were not checked, why."""
    outcomes = Counter(launch.outcome for launch in launches)
    answers = [f"{count} {_plural(outcome, count)}" for outcome, count in outcomes.most_common()]
    reasons = Counter(_reason(launch.untold) for launch in launches if launch.untold)
    if reasons.total() <= FEW:
        return ", ".join(answers)
    named = [f"{count} because {reason}" for reason, count in reasons.most_common(FEW)]
    others = reasons.total() - sum(count for _, count in reasons.most_common(FEW))
    named += [f"{others} for other reasons"] if others else []
    return f"{', '.join(answers)}; not checked: {'; '.join(named)}"


def _reason(untold: str) -> str:
    """Return a reason without the names that are of one launch alone."""
    return "only a shell knows a value" if untold.startswith(SHELL_KNOWS) else untold


def _plural(outcome: str, count: int) -> str:
    """Return an answer as it is said of several launches: `fit`, `do not fit`."""
    many = {Answer.FITS.words: "fit", Answer.DOES_NOT_FIT.words: "do not fit"}
    return many.get(outcome, outcome) if count > 1 else outcome


def _counted(number: int) -> str:
    return f"{number} launch{'es' if number > 1 else ''}"


def _next(launches: Sequence[ScannedLaunch]) -> str:
    refused = sum(launch.is_refused for launch in launches)
    if refused:
        count = f"{refused} of {_counted(len(launches))}"
        return f"{count} refused; `preflight check -- COMMAND` has the whole report"
    if is_unjudged(launches):
        return NOT_JUDGED
    unsure = [launch for launch in launches if launch.outcome == Answer.UNKNOWN.words]
    untold = [launch for launch in launches if launch.untold]
    open_to_shell = [one for one in unsure if any(map(only_shell_knows, one.argv))]
    jobs = (one.path for one in (*open_to_shell, *untold) if one.path.endswith(JOB_ENDINGS))
    job = next(jobs, "")
    if job and len(open_to_shell) == len(unsure):
        return f"`preflight check -- sbatch {shlex.quote(job)}` reads what only a job's shell knows"
    if unsure:
        return f"`preflight check -- COMMAND` says what would tell the {len(unsure)} unknown"
    unchecked = len(untold)
    if unchecked:
        return (
            f"`preflight run --` in front of the {unchecked} not checked judges them where they run"
        )
    return "nothing"


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


def scan_to_dict(launches: Sequence[ScannedLaunch], left_out: Sequence[str]) -> dict[str, Any]:
    """Return a scan as JSON."""
    return {
        "schema_version": SCHEMA_VERSION,
        "num_refused": sum(launch.is_refused for launch in launches),
        "is_unjudged": is_unjudged(launches),
        "left_out": list(left_out),
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

"""An audit of jobs as text: how many would be refused, and a line for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from preflight.render.page import Page
from preflight.report import SCHEMA_VERSION
from preflight.slurm.audit import VERDICTS, Audited
from preflight.slurm.nodes import Fit


def audit_lines(jobs: Sequence[Audited], page: Page, is_verbose: bool) -> list[str]:
    """Return the summary, a table with the worst first, and what happens next."""
    if not jobs:
        return [
            "preflight: no job script found",
            "next: name a folder whose scripts have #SBATCH lines",
        ]
    counts = Counter(job.verdict for job in jobs)
    shown = ", ".join(
        f"{counts[word]} {meaning}" for word, meaning in VERDICTS.items() if counts[word]
    )
    lines = page.wrap(f"preflight: {len(jobs)} {'job' if len(jobs) == 1 else 'jobs'}: {shown}")
    lines += _ended_lines(jobs, page)
    order = list(VERDICTS)
    ordered = sorted(jobs, key=lambda job: (order.index(job.verdict), job.name))
    rows = [
        (job.verdict.replace("_", " "), job.name, *_ended(job), _about(job))
        for job in ordered
        if is_verbose or job.verdict not in ("no_gpus", "none")
    ]
    if rows:
        lines += page.table(rows)
    lines.append(_next(counts))
    return lines


def _ended(job: Audited) -> tuple[str, ...]:
    """Return how a job ended and its GPU hours, as cells of its row; nothing for a script."""
    if not job.state:
        return ()
    return job.state, "" if job.gpu_hours is None else f"{job.gpu_hours:,.1f} GPU hours"


def _ended_lines(jobs: Sequence[Audited], page: Page) -> list[str]:
    """Return a line for each verdict: how jobs with it ended, and the GPU hours that they had."""
    lines = []
    for verdict in VERDICTS:
        those = [job for job in jobs if job.verdict == verdict and job.gpu_hours is not None]
        if those:
            states = ", ".join(
                f"{count} {state}"
                for state, count in Counter(job.state for job in those).most_common()
            )
            hours = sum(job.gpu_hours or 0.0 for job in those)
            words = verdict.replace("_", " ")
            lines += page.wrap(f"{words}: {hours:,.1f} GPU hours ({states})", "  ", "    ")
    return lines


def _about(job: Audited) -> str:
    """Return the place of the launch that decides and the nodes it does not fit, or why nobody knows."""
    if job.problem or job.answer is None:
        return job.problem
    wanted = {"does_not_fit": Fit.DOES_NOT_FIT, "may_fit": Fit.MAYBE, "fits": Fit.FITS}.get(
        job.verdict
    )
    for one in job.answer.launches:
        if one.fit is wanted and one.judgement is not None:
            bad = one.judgement.judged.groups(Fit.DOES_NOT_FIT)
            nodes = "; not on " + ", ".join(group.words for group in bad) if bad else ""
            return f"{one.where}{nodes}"
    for one in job.answer.launches:
        if one.problem:
            return f"{one.where}: {one.problem}"
    return "; ".join(job.answer.reading.reasons)


def _next(counts: Counter[str]) -> str:
    if counts["does_not_fit"]:
        return "next: nothing was stopped; `preflight sbatch` shows what would make such a job fit"
    return "next: nothing; the guard would have refused none of these"


def audit_dict(jobs: Sequence[Audited]) -> dict[str, Any]:
    """Return an audit as JSON."""
    counts = Counter(job.verdict for job in jobs)
    return {
        "schema_version": SCHEMA_VERSION,
        "summary": {"num_jobs": len(jobs), **{word: counts[word] for word in VERDICTS}},
        "jobs": [job.to_dict() for job in jobs],
    }

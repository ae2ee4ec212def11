"""The tables of docs/accuracy.md: every source left out in turn, library versions, and years, over all measured runs.

`python -m preflight.derive accuracy` makes them from the run files that the checkout has in tests/measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from preflight.derive.pages.leave_one_out import compared_runs, left_out
from preflight.derive.target import ROOT, Files, Say, put_between, read
from preflight.formats.load import read_data_file
from preflight.plugins import load_plugins
from preflight.studies.measured import COUNTERS, MeasuredRun, read_runs
from preflight.studies.validate import ValidatedRun, Validation, validate_runs
from preflight.versions.boundary import release
from preflight.versions.days import DAYS

PAGE = "docs/accuracy.md"
RUNS = ("tests/measured/runs-dev.yaml", "tests/measured/runs-dev-2.yaml")
BEGIN, END = "<!-- left out, versions, years -->", "<!-- end of left out, versions, years -->"
NOT_SAID = "not said"


def files(say: Say) -> Files:
    """Return the page with its tables made again."""
    say(f"estimating the runs of {len(RUNS)} files")
    yield PAGE, put_between(read(PAGE), BEGIN, END, lines(measured_validation()))


def measured_validation() -> Validation:
    """Return all measured runs of the checkout beside their predictions."""
    runs: list[MeasuredRun] = []
    for path in RUNS:
        runs += read_runs(read_data_file(str(ROOT / path)))
    return validate_runs(runs, load_plugins(str(ROOT)))


def lines(validation: Validation) -> Iterator[str]:
    """Yield the three tables."""
    yield "| left out | engine | counter | runs | off by, fitted to all | fitted to the others | margin of the others | half full or more, within it |"
    yield "|---|---|---|--:|--:|--:|--:|--:|"
    for row in left_out(compared_runs(validation)):
        yield (
            f"| {row.group} | {row.engine} | {row.counter} | {row.num_runs}"
            f" | {100 * row.error_in_sample:.1f} % | {100 * row.error_out_of_sample:.1f} %"
            f" | {100 * row.margin:.1f} % | {row.num_covered} of {row.num_full} |"
        )
    scored = [v for v in validation.scored_by_counter if v.error is not None]
    for title, key in (("library", library_of), ("year of its release", year_of)):
        yield ""
        yield f"| {title} | " + " | ".join(COUNTERS) + " |"
        yield "|---|" + "--:|" * len(COUNTERS)
        for name in sorted({key(v) for v in scored}, key=_in_order):
            part = [v for v in scored if key(v) == name]
            cells = [_cell([v for v in part if v.run.counter == c]) for c in COUNTERS]
            yield f"| {name} | " + " | ".join(cells) + " |"


def library_of(v: ValidatedRun) -> str:
    """Return the library whose release decides most of a run, and its minor release."""
    for name in ("transformers", "torchtitan", "deepspeed", "torch"):
        version = v.run.plan.versions.get(name)
        if version:
            return f"{name} {'.'.join(str(version).split('.')[:2])}"
    return NOT_SAID


def year_of(v: ValidatedRun) -> str:
    """Return the year by which the run's torch was released (preflight/versions/days.py)."""
    version = v.run.plan.versions.get("torch")
    if not version:
        return NOT_SAID
    first = next(iter(DAYS))
    for day, releases in DAYS.items():
        if release(str(version))[:2] <= release(releases["torch"])[:2]:
            return f"{day[:4]} or before" if day == first else day[:4]
    return NOT_SAID


def _in_order(name: str) -> tuple[bool, str, Sequence[int]]:
    library, _, version = name.partition(" ")
    numbers = [int(part) for part in version.split(".") if part.isdecimal()]
    return name == NOT_SAID, library, numbers


def _cell(runs: Sequence[ValidatedRun]) -> str:
    if not runs:
        return ""
    errors = [abs(v.error or 0) for v in runs]
    signed = median(v.error or 0 for v in runs)
    return f"{100 * median(errors):.1f} % ({100 * signed:+.1f}), {len(runs)}"

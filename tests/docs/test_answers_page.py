"""docs/remedies-answers.md: what is found for twenty launches that do not fit.

`pytest tests/docs/test_answers_page.py --update-expected` rewrites the page. What must hold of every answer is in
test_does_not_fit.py, and that no other plan is better in test_lattice.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from unfit_launches import CASES, report_of

from preflight.plugins import load_plugins
from preflight.report import Report, TriedRemedy
from preflight.units import GIB, format_count
from preflight.verdict import Answer

PAGE = Path(__file__).parents[2] / "docs" / "remedies-answers.md"
HEAD = """\
# Twenty launches that do not fit, and what is found for each

Written by `pytest tests/docs/test_answers_page.py --update-expected` from the launches in `tests/does_not_fit`.

Each is read from its command and files, estimated, and searched for the fastest plan that fits with what may be applied unasked.
Peaks are of the fullest rank at the level of the driver, in GiB; the step time is over that of the launch as written, which does not run.
`tests/search/test_lattice.py` compares such answers with every plan of smaller lattices, and `tests/search/test_does_not_fit.py` holds what each trains to what was typed.
Where nothing fits that trains the same, what changes training is said with its peak, and the fewest devices of that type on which each method would fit.
"""


def gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.0f}"


def peak_of(tried: TriedRemedy) -> str:
    return f"{gib(tried.estimate.device_peak_bytes)}, {tried.verdict.answer.words}"


def answer_of(report: Report) -> tuple[str, str, str]:
    """Return what is found, its step time and its peak."""
    if report.applied:
        last = report.applied[-1]
        found = "; ".join(f"`{t.remedy.id}`: {t.remedy.title}" for t in report.applied)
        return found, f"x{last.step_time_factor:.2f}", peak_of(last)
    helps = [t for t in report.suggested if t.verdict.answer is not Answer.DOES_NOT_FIT]
    suggested = ", ".join(
        f"`{t.remedy.id}` (x{t.step_time_factor:.2f}, {peak_of(t)})" for t in helps
    )
    methods = [] if report.advice is None else report.advice.methods
    fewest = ", ".join(f"{m.method} {m.least_ranks or 'none tried'}" for m in methods)
    return f"nothing; said: {suggested or 'nothing'}; fewest devices: {fewest}", "-", "-"


def page_of(reports: Mapping[str, Report]) -> str:
    lines = [
        HEAD,
        "| launch | model | ranks | as written | found | step time | peak |",
        "|---|---|---|--:|---|--:|--:|",
    ]
    for name, report in reports.items():
        assert report.estimate and report.device and report.model
        plan = report.plan
        model = f"{report.model.name}, {format_count(report.model.num_params)}"
        ranks = f"{plan.world_size} x {report.device.name}, {plan.engine}, {plan.launcher}"
        written = f"{gib(report.estimate.device_peak_bytes)} of {gib(report.device.capacity_bytes)}"
        cells = (name, model, ranks, written, *answer_of(report))
        lines.append(f"| {' | '.join(cells)} |")
    found = sum(bool(report.applied) for report in reports.values())
    lines += ["", f"A plan that trains the same was found for {found} of {len(reports)}."]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    plugins = load_plugins()
    return {name: report_of(name, plugins) for name in CASES}


def test_the_page_is_what_is_found(reports, request):
    page = page_of(reports)
    if request.config.getoption("--update-expected"):
        PAGE.write_text(page)

    assert page == PAGE.read_text()

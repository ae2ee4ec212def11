"""Twenty launches that do not fit: the plan found for each, its step time and its peak, and that it trains the same.

`pytest tests/search/test_does_not_fit.py --update-expected` rewrites answers.yaml; review the diff as an expert would:
`expert` in manifest.yaml is what one would do.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from unfit_launches import CASES, FOLDER, command_of, report_of, request_of

from preflight.formulas.lever_rules import PLAIN_ADAMW
from preflight.launch import LaunchPlan
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.remedy import DEAR_FACTOR, UNPROVED
from preflight.report import Report
from preflight.search.trying import Search
from preflight.units import GIB
from preflight.verdict import Answer

ANSWERS = FOLDER / "answers.yaml"
ABOUT = "# Written by `pytest tests/search/test_does_not_fit.py --update-expected`; peaks in GiB at the level of the driver.\n"
MOST_ESTIMATES = 80
"""Plans estimated for one answer, with its suggestions; time is in benchmarks/bench_search.py."""
TRAINS = ("model", "seq_len", "adapter", "base_quantization", "sequence_kind")
"""Plan fields that decide what is trained, beside the global batch and the optimizer."""
ADAMW = (*PLAIN_ADAMW, "deepspeed_cpu_adam")
"""One optimizer, by the kernels that step it."""


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    plugins = load_plugins()
    return {name: report_of(name, plugins) for name in CASES}


def answer_of(report: Report) -> dict[str, Any]:
    """Return what was found, rounded so that a byte more is no other answer."""
    assert report.estimate is not None and report.device is not None and report.model is not None
    answer: dict[str, Any] = {
        "launch": f"{report.model.name}, {report.plan.engine} on {report.plan.world_size} x {report.device.name}",
        "written": f"{report.verdict.answer.words}, {_gib(report.estimate.device_peak_bytes)} of"
        f" {_gib(report.device.capacity_bytes)}",
    }
    if report.applied:
        last = report.applied[-1]
        answer["found"] = [f"{tried.remedy.id}: {tried.remedy.title}" for tried in report.applied]
        answer["step_time_factor"] = round(last.step_time_factor, 2)
        answer["peak"] = f"{last.verdict.answer.words}, {_gib(last.estimate.device_peak_bytes)}"
    else:
        answer["found"] = []
        answer["suggested"] = [
            tried.remedy.id
            for tried in report.suggested
            if tried.verdict.answer is not Answer.DOES_NOT_FIT
        ]
        assert report.advice is not None
        answer["fewest"] = {m.method: m.least_ranks for m in report.advice.methods}
    return answer


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.0f}"


def test_the_answers_are_those_that_were_reviewed(reports, request):
    answers = {name: answer_of(report) for name, report in reports.items()}
    if request.config.getoption("--update-expected"):
        ANSWERS.write_text(ABOUT + yaml.safe_dump(answers, sort_keys=False, width=110))

    assert answers == yaml.safe_load(ANSWERS.read_text())


def test_none_of_the_twenty_fits_as_written(reports):
    assert len(reports) == 20
    assert {r.verdict.answer for r in reports.values()} == {Answer.DOES_NOT_FIT}


def test_they_span_engines_launchers_and_sizes(reports):
    sizes = [report.model.num_params for report in reports.values() if report.model]

    assert {"single", "ddp", "fsdp1", "fsdp2", "zero2", "zero3"} <= {
        report.plan.engine for report in reports.values()
    }
    assert len({report.plan.launcher for report in reports.values()}) >= 7
    assert min(sizes) < 1.3e9
    assert max(sizes) > 4e11


@pytest.mark.parametrize("allow", [frozenset(), UNPROVED], ids=["proved", "all levers"])
def test_a_few_dozen_estimates_find_an_answer(allow, monkeypatch):
    asked: list[LaunchPlan] = []
    judged = Search.judged
    monkeypatch.setattr(
        Search, "judged", lambda self, plan: asked.append(plan) or judged(self, plan)
    )
    plugins = load_plugins()
    most = {}
    for name in CASES:
        asked.clear()
        check_launch(
            command_of(name), plugins, replace(request_of(name), policy=Policy(allow=allow))
        )
        most[name] = len(asked)

    assert {name: number for name, number in most.items() if number > MOST_ESTIMATES} == {}


def trained(plan: LaunchPlan) -> dict[str, Any]:
    return {
        "global batch": plan.global_batch_size,
        "optimizer": "adamw" if plan.optimizer in ADAMW else plan.optimizer,
        **{name: getattr(plan, name) for name in TRAINS},
    }


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_trains_the_same(name, reports):
    report = reports[name]
    for tried in report.applied:
        assert tried.remedy.is_safe
        assert trained(tried.plan) == trained(report.plan)


@pytest.mark.parametrize("name", CASES)
def test_what_is_found_holds_on_the_device(name, reports):
    report = reports[name]
    if not report.applied:
        assert report.advice is not None
        return
    assert report.rewrite is not None
    assert report.final_verdict.answer in (Answer.FITS, Answer.TIGHT)
    if report.final_verdict.answer is Answer.FITS:
        peak = report.applied[-1].estimate.device_peak_bytes

        assert peak <= report.device.capacity_bytes


def test_what_is_tight_on_the_device_comes_before_what_needs_host_memory(reports):
    name = "8b_zero3_long"
    tight = reports[name]
    plugins = load_plugins()
    sure = report_of(name, plugins, Policy(refuse=frozenset({"does_not_fit", "tight"})))
    asked = report_of(name, plugins, Policy(allow=frozenset({"offload_optimizer"})))

    assert tight.final_verdict.answer is Answer.TIGHT
    assert not any(tried.remedy.needs_host for tried in tight.applied)
    assert "offload_optimizer" in [tried.remedy.id for tried in tight.suggested]
    for report in (sure, asked):
        assert report.final_verdict.answer is Answer.FITS
        assert "offload_optimizer" in [tried.remedy.id for tried in report.applied]


DEAR = "30b_experts_2nodes"


def test_a_dear_rewrite_is_offered_beside_what_is_cheaper_and_waits_to_be_asked_for(reports):
    report = reports[DEAR]
    policy = Policy(allow=frozenset({report.dearest}))
    asked = check_launch(command_of(DEAR), load_plugins(), replace(request_of(DEAR), policy=policy))

    assert report.rewrite is not None and report.is_dear and not report.may_launch
    assert report.final_verdict.answer is Answer.FITS
    assert report.suggested
    assert all(tried.step_time_factor <= DEAR_FACTOR for tried in report.suggested)
    assert asked.may_launch and asked.final_plan == report.final_plan


def test_nothing_else_of_the_twenty_is_held_back(reports):
    for report in reports.values():
        if report.rewrite is not None and not report.is_dear:
            assert report.may_launch

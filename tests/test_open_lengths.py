"""A length that nobody said: a verdict between its bounds holds for every length, and settling it never widens the answer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.judge import judge_plan
from preflight.launch import LaunchPlan, Origin
from preflight.open_values import filled_in, open_values
from preflight.pipeline import check_plan
from preflight.plan_choices import OPEN_VALUES
from preflight.plan_parts import VersionReading, open_up_to
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.render.html_report import report_html
from preflight.render.page import Page
from preflight.render.report import report_lines
from preflight.request import Request
from preflight.search.largest import STEP
from preflight.verdict import Answer

PLUGINS = load_plugins()
SURE = (Answer.FITS, Answer.DOES_NOT_FIT)
MODELS = ("Qwen/Qwen2.5-0.5B", "openai-community/gpt2-xl", "meta-llama/Llama-3.1-8B")
"""The second has a table of positions, which is a bound of its own."""


def plan_of(model, device, most=None, open_fields=(), **more) -> LaunchPlan:
    plan = LaunchPlan(
        model=model,
        engine="fsdp2",
        world_size=8,
        shard_degree=8,
        mixed_precision="bf16",
        device=device,
        **{"micro_batch_size": 1, "sequence_kind": "padded", **more},
    )
    if most is not None:
        plan = plan.with_origin("seq_len", open_up_to(most, "the model refuses more"))
    for name in open_fields:
        plan = plan.with_origin(name, Origin("nobody", True, "", OPEN_VALUES[name]))
    return plan


def judged(plan):
    return judge_plan(plan, PLUGINS, Policy())


def said(plan, length):
    """Return the plan of somebody who says how long rows are."""
    return plan.with_origin("seq_len", Origin("--set")).with_edits({"seq_len": length})


plans = st.builds(
    plan_of,
    st.sampled_from(MODELS),
    st.sampled_from(("h100-sxm-80", "l4-24", "t4-16")),
    st.sampled_from((None, 64, 1024, 8192, 131072)),
    st.sets(st.sampled_from(("activation_checkpointing", "adapter", "loss")), max_size=2),
    micro_batch_size=st.sampled_from((None, 1, 4, 32)),
)


@given(plans, st.data())
@settings(max_examples=60)
def test_a_verdict_holds_for_every_length_and_batch_that_may_come(plan, data):
    found = judged(plan)
    answer = found.verdict.answer
    most = open_values(found.plan).get("seq_len", (1, 2**18))[-1]
    length = data.draw(st.one_of(st.integers(1, most), st.just(1), st.just(most)))
    rows = plan.micro_batch_size or data.draw(st.integers(1, 64))
    settled = said(replace(found.plan, micro_batch_size=rows), length)
    after = judged(settled).verdict.answer

    if answer in SURE:
        assert after is answer
    if answer is Answer.TIGHT:
        assert after in (Answer.FITS, Answer.TIGHT)


@given(plans)
@settings(max_examples=30)
def test_what_is_unknown_for_a_length_is_named(plan):
    report = check_plan(plan, PLUGINS, Request())
    waits = "seq_len" in report.verdict.missing
    readings = report.readings
    is_deciding = readings is not None and "seq_len" in readings.deciding

    if waits:
        assert report.verdict.answer is not Answer.FITS
        assert report.plan.seq_len is None
    if is_deciding:
        assert waits and report.verdict.answer is Answer.UNKNOWN


@given(plans)
@settings(max_examples=30)
def test_the_longest_rows_that_fit_do_fit_and_are_the_longest(plan):
    report = check_plan(plan, PLUGINS, Request())
    length = report.extra.get("longest_seq_len")
    if length is None or report.verdict.answer is not Answer.UNKNOWN:
        return

    assert judged(said(report.plan, length)).verdict.answer is Answer.FITS
    if length % STEP == 0 and report.readings is not None and report.readings.ranges:
        assert judged(said(report.plan, length + STEP)).verdict.answer is not Answer.FITS


def test_a_launch_that_fits_at_its_longest_shows_what_that_takes():
    plan = plan_of("openai-community/gpt2", "h100-sxm-80")
    report = check_plan(plan, PLUGINS, Request())
    longest = judged(said(plan, 1024))

    assert report.verdict.answer is Answer.FITS and report.estimate is not None
    assert longest.estimate is not None
    assert report.estimate.device_peak_bytes == longest.estimate.device_peak_bytes


def test_the_first_line_names_both_ends_and_the_longest_rows_that_fit():
    plan = plan_of("meta-llama/Llama-3.1-8B", "h100-sxm-80", 131072)
    bounded = check_plan(plan, PLUGINS, Request())
    unbounded = check_plan(plan_of("meta-llama/Llama-3.1-8B", "h100-sxm-80"), PLUGINS, Request())
    length = bounded.extra["longest_seq_len"]
    lines, free = (report_lines(each, "check", Page()) for each in (bounded, unbounded))

    assert f" with 131,072, the most that may come, and up to {length:,} tokens fit:" in lines[0]
    assert lines[0].startswith("preflight: cannot tell.") and "with a seq_len of 1," in lines[0]
    assert lines[-1].endswith("add --set seq_len=N before the `--`")
    assert f"seq_len not known, and up to {length:,} tokens fit. At least" in free[0]
    assert f"up to {length:,} tokens fit" in report_html(bounded, "check")


def test_the_bound_is_not_said_in_the_plan_of_the_answer():
    report = check_plan(plan_of("openai-community/gpt2", "h100-sxm-80"), PLUGINS, Request())
    answer = report.to_dict()

    assert answer["plan"]["seq_len"] is None and answer["origins"]["seq_len"]["assumed"]
    assert answer["open"]["seq_len"] == {"may_be": [1, 1024], "deciding": False, "is_range": True}
    assert set(open_values(said(report.plan, 8))) == set()
    assert set(open_values(replace(report.plan, seq_len=8))) == set()


def test_a_batch_that_nobody_said_is_one_row_at_least():
    plan = plan_of("meta-llama/Llama-3.1-8B", "l4-24", micro_batch_size=None, seq_len=131072)
    short = replace(plan, seq_len=128, adapter=OPEN_VALUES["adapter"][1])

    assert judged(plan).verdict.answer is Answer.DOES_NOT_FIT
    assert judged(short).verdict.answer is Answer.UNKNOWN
    assert judged(short).verdict.missing == ("micro_batch_size",)


def test_a_release_with_a_length_of_its_own_leaves_nothing_open():
    other = VersionReading({"trl": "0.9.0"}, {"seq_len": 512})
    plan = plan_of("openai-community/gpt2", "h100-sxm-80", 1024)
    plan = replace(plan, versions={"trl": "1.0.0"}, version_readings=(other,))
    plan = plan.with_origin("versions", Origin("nobody", True, "", ({"trl": "0.9.0"},)))
    older = filled_in(plan, {"versions": {"trl": "0.9.0"}, "seq_len": 1})
    newer = filled_in(plan, {"versions": {"trl": "1.0.0"}, "seq_len": 1})

    assert older is not None and newer is not None
    assert (older.seq_len, newer.seq_len) == (512, 1)


@pytest.mark.parametrize("device", ["h100-sxm-80", "t4-16"])
def test_bounds_take_one_estimate_for_each_end(device, monkeypatch):
    import preflight.judge as judge

    num_estimates = 0
    estimate = judge.estimate_memory

    def counted(*given):
        nonlocal num_estimates
        num_estimates += 1
        return estimate(*given)

    monkeypatch.setattr(judge, "estimate_memory", counted)
    judged(plan_of("openai-community/gpt2", device))

    assert num_estimates == 2


def test_a_release_that_takes_more_at_that_length_alone_shortens_it():
    """With no tokens no release stands out; the longest rows are looked for again where one does."""
    plan = plan_of("meta-llama/Llama-3.1-8B", "h100-sxm-80", trainer="torchtune")
    plan = replace(plan, versions={"torchtune": "0.6.1"}, loss="chunked_linear")
    fused = VersionReading({"torchtune": "0.7.0"}, {})
    eager = VersionReading({"torchtune": "0.6.0"}, {"loss": "chunked_ce"})
    plan = replace(plan, version_readings=(fused, eager))
    others = tuple(other.versions for other in plan.version_readings)
    plan = plan.with_origin("versions", Origin("nobody", True, "", others))
    report = check_plan(plan, PLUGINS, Request())
    length = report.extra["longest_seq_len"]

    assert judged(said(report.plan, length)).verdict.answer is Answer.FITS
    assert judged(said(report.plan, length + STEP)).verdict.answer is not Answer.FITS

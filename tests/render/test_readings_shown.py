"""Open values that decide, as the page and the code review show them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from page_reader import read

from preflight.device import DeviceSpec
from preflight.launch import LaunchPlan, Origin
from preflight.pipeline import check_plan
from preflight.plan_choices import OPEN_VALUES
from preflight.plugins import load_plugins
from preflight.readings import Completion, Readings, Settled
from preflight.render.html_report import report_html
from preflight.render.page import Page
from preflight.render.readings import by_peak, option, question_of, reading_rows
from preflight.render.report import head_lines
from preflight.render.sarif import Log
from preflight.request import Request
from preflight.units import GIB
from preflight.verdict import Answer, Verdict


@pytest.fixture(scope="module")
def report():
    plan = LaunchPlan(
        model="Qwen/Qwen2.5-14B",
        engine="ddp",
        world_size=8,
        micro_batch_size=1,
        seq_len=2048,
        mixed_precision="bf16",
        device="h100-sxm-80",
    )
    plan = plan.with_origin("engine", Origin("nobody", True, "", OPEN_VALUES["engine"]))
    report = check_plan(plan, load_plugins(), Request())
    assert report.verdict.answer is Answer.UNKNOWN
    return report


def test_the_page_shows_what_each_value_gives_and_what_settles_it(report):
    text = report_html(report, "check")
    pictures = read(text).pictures

    assert "What nobody said, and what each value of it gives" in text
    spans = [said for said in pictures if said.startswith(("every reading: ", "engine "))]
    every, *values = [said.rpartition(": ")[2] for said in spans]
    ends = [float(each) for said in values for each in said.split() if each[0].isdigit()]
    assert every == f"{min(ends)} to {max(ends)} GiB"
    assert "<code>--set engine=" in text
    assert text.count("does not fit") >= 1


def test_a_code_review_is_told_what_each_value_gives(report, tmp_path):
    log = Log(str(tmp_path))
    log.add_report(report, "")
    (result, *_) = log.to_dict()["runs"][0]["results"]

    assert result["ruleId"] == "unknown"
    lines = result["message"]["text"].splitlines()
    assert lines[0].startswith("cannot tell.") and "--set engine=" in lines[0]
    assert {line.split(":")[0] for line in lines[1:]} == {
        f"engine {value}" for value in OPEN_VALUES["engine"]
    }


def test_a_peak_above_the_card_that_is_only_tight_says_what_its_tensors_take():
    plan = LaunchPlan(
        model="meta-llama/Llama-3.1-70B",
        engine="fsdp1",
        world_size=8,
        shard_degree=8,
        micro_batch_size=4,
        seq_len=4096,
        mixed_precision="bf16",
        activation_checkpointing="full",
        device="one:170",
    )
    plan = plan.with_origin("engine", Origin("nobody", True, "", OPEN_VALUES["engine"]))
    told = {row.value: row for row in reading_rows(check_plan(plan, load_plugins(), Request()))}

    for engine in ("fsdp1", "fsdp2"):
        row = told[engine]
        words, tensors, *unit = row.answer.replace(",", "").split()
        assert (words, unit) == ("tight", ["GiB", "unfragmented"])
        assert float(tensors) < 170 < row.most.peak_bytes / GIB
    assert told["ddp"].answer == "does not fit"


def test_a_launch_that_is_tight_with_a_value_that_nobody_said_names_it():
    plan = LaunchPlan(
        model="meta-llama/Llama-3.2-1B",
        micro_batch_size=1,
        seq_len=4096,
        mixed_precision="bf16",
        load_dtype="bf16",
        attention="sdpa",
        device="one:1000",
    )
    plan = plan.with_origin("attention", Origin("nobody", True, "", ("sdpa", "eager")))
    readings = check_plan(plan, load_plugins(), Request()).readings
    assert readings is not None
    capacity = readings.most.least_bytes * 1.01 / GIB
    report = check_plan(replace(plan, device=f"one:{capacity:.2f}"), load_plugins(), Request())

    assert report.verdict.answer is Answer.TIGHT
    first = head_lines(report, Page())[0]
    assert " if attention is sdpa, " in first and " if eager (" in first
    assert "unfragmented" in first.partition(" if eager (")[2]


def test_a_value_that_nobody_can_price_is_named_beside_one_that_fits():
    """Both read alike before: `82.1 GiB if trl is 1.16.0, 82.1 GiB if 0.10.1`."""
    plan = LaunchPlan(
        model="Qwen/Qwen2.5-7B", objective="kto", trainer="trl", engine="ddp", world_size=4, micro_batch_size=2,
        seq_len=1024, mixed_precision="bf16", load_dtype="bf16", device="big:400", activation_checkpointing="full",
        versions={"trl": "1.13.0"},
    )  # fmt: skip
    may_be = ({"trl": "1.13.0"}, {"trl": "1.6.0"})
    plan = plan.with_origin("versions", Origin("nobody", True, "", may_be))
    (line, *_) = head_lines(check_plan(plan, load_plugins(), Request()), Page(width=400))

    assert "per rank if trl is 1.13.0, unknown if 1.6.0 (" in line
    assert line.endswith(": --set versions.trl=1.13.0|1.6.0 says which")


def test_the_library_is_asked_for_that_tells_the_answer_where_none_tells_the_bytes():
    """Releases of another library move the peak by little, and said nothing of what is unknown."""
    releases = (("4.2", "1.0", 3), ("4.1", "1.1", 2), ("5.0", "1.0", 3), ("4.1", "1.0", 1))
    ways = []
    for taken, beside, peak in releases:
        versions = {"trl": beside, "transformers": taken}
        is_told = taken != "5.0"
        verdict = Verdict(
            Answer.FITS if is_told else Answer.UNKNOWN, "", unpriced=() if is_told else ("it",)
        )
        estimate = SimpleNamespace(device_peak_bytes=peak * GIB, peaks=(peak,))
        end = Completion({}, estimate, verdict)
        ways.append(Settled(versions, end, end, verdict.answer))
    readings = Readings(
        ways[0].most, ways[3].most, ways[0].most, None, {}, {"versions": tuple(ways)}
    )
    device = DeviceSpec("a card", 80 * GIB)

    said = question_of(readings, device)
    assert " if transformers is 4.2, unknown if 5.0 (not priced: it)" in said
    assert option("versions", by_peak(ways), readings) == "--set versions.transformers=4.2|5.0"


def test_a_launch_that_fits_shows_how_far_apart_its_readings_lie():
    plan = LaunchPlan(
        model="meta-llama/Llama-3.2-1B", micro_batch_size=1, seq_len=1024, mixed_precision="bf16",
        load_dtype="bf16", attention="sdpa", device="h100-sxm-80",
    )  # fmt: skip
    settled = check_plan(plan, load_plugins(), Request())
    opened = plan.with_origin("attention", Origin("nobody", True, "", ("sdpa", "eager")))
    report = check_plan(opened, load_plugins(), Request())

    assert report.verdict.answer is Answer.FITS and report.readings is not None
    most = report.readings.most.peak_bytes / GIB
    (shown,) = [p for p in read(report_html(report, "check")).pictures if "every reading" in p]
    assert shown.endswith(f" to {most:.1f} GiB")
    assert "every reading" not in report_html(settled, "check")

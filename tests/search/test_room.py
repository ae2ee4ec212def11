"""What a launch that fits leaves: the micro batch and the rows that are said fit, and little larger ones do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_lattice import START

from preflight.launch import LaunchPlan, Origin
from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.report import Report
from preflight.request import Request
from preflight.search.largest import NEARLY_THE_LARGEST, STEP
from preflight.search.room import MOST_ROWS
from preflight.verdict import Answer

ASKED = Request(finds_room=True)
SMALL = replace(START, micro_batch_size=1, seq_len=1000, model="Qwen/Qwen2.5-1.5B")
PLANS = {
    "sharded": replace(SMALL, activation_checkpointing="full"),
    "scores of eager attention": replace(SMALL, attention="eager", device="l4-24"),
    "all logits": replace(SMALL, loss="full_logits", activation_checkpointing="full"),
    "host is short": replace(SMALL, offload_optimizer="cpu", host_memory_gib=300),
    "longer than its positions": replace(
        SMALL, model="Qwen/Qwen2.5-0.5B", seq_len=34_000, loss="chunked_linear"
    ),
}

PART = NEARLY_THE_LARGEST.part


def next_ones(report: Report) -> dict[str, int]:
    """Return the fields with values a PART above those that were said to fit, where such are looked at."""
    room, plan, model = report.extra["room"], report.plan, report.model
    assert model is not None and plan.seq_len is not None
    positions = max(plan.seq_len, model.config["max_position_embeddings"])
    micro, steps = room["micro_batch_size"], room["seq_len"] // STEP
    beyond = {
        "micro_batch_size": micro + max(1, micro // PART),
        "seq_len": (steps + max(1, steps // PART)) * STEP,
    }
    most = {"micro_batch_size": MOST_ROWS, "seq_len": positions}
    return {name: value for name, value in beyond.items() if value <= most[name]}


def answer_of(plan: LaunchPlan, **edits: Any) -> Answer:
    return check_plan(plan.with_edits(edits), load_plugins(), Request()).verdict.answer


@pytest.mark.parametrize("name", PLANS)
def test_each_number_fits_alone_and_a_little_more_does_not(name):
    plan = PLANS[name]
    report = check_plan(plan, load_plugins(), ASKED)
    room = report.extra["room"]

    assert report.verdict.answer is Answer.FITS
    for field in ("micro_batch_size", "seq_len"):
        assert room[field] >= getattr(plan, field)
        assert answer_of(plan, **{field: room[field]}) is Answer.FITS
    for field, value in next_ones(report).items():
        assert answer_of(plan, **{field: value}) is not Answer.FITS


def test_of_open_values_every_reading_fits():
    opened = Origin("nobody", True, "nobody said", may_be=("none", "full"))
    plan = replace(SMALL, activation_checkpointing="none")
    plan = plan.with_origin("activation_checkpointing", opened)
    report = check_plan(plan, load_plugins(), ASKED)
    room = report.extra["room"]

    assert report.readings is not None and report.device is not None
    assert report.readings.most.values == {"activation_checkpointing": "none"}
    assert report.readings.most.peak_bytes + room["headroom_bytes"] == report.device.capacity_bytes
    for field in ("micro_batch_size", "seq_len"):
        assert answer_of(plan, **{field: room[field]}) is Answer.FITS
    for field, value in next_ones(report).items():
        assert answer_of(plan, **{field: value}) is not Answer.FITS


def test_what_is_rewritten_says_what_the_rewrite_leaves():
    report = check_plan(replace(SMALL, device="l4-24", micro_batch_size=64), load_plugins(), ASKED)

    assert report.verdict.answer is Answer.DOES_NOT_FIT
    assert ("room" in report.extra) == (report.final_verdict.answer is Answer.FITS)


def test_only_a_launch_that_fits_has_room_and_only_where_it_is_asked_for():
    plugins = load_plugins()

    assert "room" not in check_plan(SMALL, plugins, Request()).extra
    assert "room" not in check_plan(replace(SMALL, device="tiny:1"), plugins, ASKED).extra


@pytest.mark.parametrize("device", ["l4-24", "h100-sxm-80"])
def test_without_a_length_each_remedy_is_told_with_the_rows_that_it_makes_fit(device):
    plan = replace(SMALL, engine="single", world_size=1, shard_degree=1, device=device)
    plan = replace(plan, seq_len=None, micro_batch_size=2, loss="full_logits")
    plugins = load_plugins()
    report = check_plan(plan, plugins, ASKED)
    as_written = report.extra["longest_seq_len"]
    told = {one["id"]: one for one in report.extra["longest_seq_len_with"]}
    keeps = [one["safety"] != "changes_training" for one in told.values()]
    asked = {"plan": plan, "model": report.model, "device": report.device}
    offered = {}
    for _, remedy in plugins.collect("preflight_remedies", **asked):
        offered.setdefault(remedy.id, remedy)

    assert report.verdict.missing == ("seq_len",) and "activation_checkpointing" in told
    assert keeps == sorted(keeps, reverse=True)
    for name in ("activation_checkpointing", "qlora"):
        length, edits = told[name]["seq_len"], offered[name].edits
        more = (length // STEP + max(1, length // STEP // PART)) * STEP
        assert length > as_written
        assert answer_of(plan, **edits, seq_len=length) is Answer.FITS
        assert answer_of(plan, **edits, seq_len=more) is not Answer.FITS


def test_lengths_with_remedies_are_looked_for_where_people_ask_alone():
    report = check_plan(replace(SMALL, seq_len=None), load_plugins(), Request())

    assert "longest_seq_len_with" not in report.extra

"""The timeline of a trace: every part in order, and nothing that the phases do not say."""

from __future__ import annotations

import json

import pytest
from tiny_models import job

from preflight.memory import Phase
from preflight.trace.log import END
from preflight.trace.result import PHASE_PARTS, TraceResult, result_from_dict, traced_phases
from preflight.trace.run import trace
from preflight.trace.timeline import timeline_of

CASES = {
    "full": {},
    "checkpointed and accumulating": {"checkpointing": True, "micro_steps": 2},
    "autocast": {"autocast": True, "mixed": True, "trainable_dtype": "fp32"},
}


@pytest.fixture(scope="module", params=CASES)
def traced(request) -> TraceResult:
    done = trace(job("llama", **CASES[request.param]))
    return TraceResult(
        traced_phases(done.levels), timeline_of(done.levels), done.depth.num_layers,
        len(done.depth.kept), 0.0, {"torch": "2"}, "2026-01-31",
    )  # fmt: skip


def test_the_highest_part_of_the_timeline_is_the_peak_of_the_phases(traced):
    assert max(part.peak_bytes for part in traced.timeline) == traced.peak.num_bytes


def test_each_phase_peaks_in_one_of_its_parts_and_with_the_same_categories(traced):
    for phase in traced.phases:
        if phase.phase is Phase.SECOND_STEP:
            continue
        steps = (0, 1) if phase.phase is Phase.OPTIMIZER_STEP else (0,)
        own = [
            a for a in traced.timeline
            if a.part.name in PHASE_PARTS[phase.phase] and a.part.step in steps
        ]  # fmt: skip
        highest = max(own, key=lambda a: a.peak_bytes)

        assert highest.peak_bytes == phase.num_bytes
        assert highest.part.where == phase.where
        assert highest.at_peak == phase.categories


def test_the_second_step_begins_where_the_first_one_ended_and_ends_there_too(traced):
    """Nothing leaks: from its second step on, a training goes in circles."""
    first, second = ([a for a in traced.timeline if a.part.step == step] for step in (0, 1))

    assert first[-1].at_end == second[-1].at_end
    assert [a.part.where for a in first] == [a.part.where for a in second[:-1]]
    assert second[-1].part.name == END


def test_every_layer_has_its_forward_and_its_backward_in_order(traced):
    micro_steps = {a.part.micro for a in traced.timeline}
    for step in (0, 1):
        for micro in micro_steps:
            own = [a.part for a in traced.timeline if (a.part.step, a.part.micro) == (step, micro)]
            forward = [p.layer for p in own if p.name == "layer_forward"]

            assert forward == list(range(traced.num_layers))
            assert [p.layer for p in own if p.name == "layer_backward"] == forward[::-1]


def test_a_timeline_survives_json(traced):
    written = json.loads(json.dumps(traced.to_dict()))

    assert result_from_dict(written) == traced
    for part in written["timeline"]:
        assert part["peak_bytes"] == sum(part["at_peak"].values())
        assert part["end_bytes"] == sum(part["at_end"].values())
        assert part["peak_bytes"] >= part["end_bytes"]

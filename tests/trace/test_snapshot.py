"""A trace as a memory snapshot: PyTorch's own tool reads it, and its highest level is the trace's peak."""

from __future__ import annotations

import json
import pickle

import pytest
from test_command import PLAN
from tiny_models import CONFIGS
from torch.cuda import _memory_viz

from preflight.cli import main


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The snapshot of a tiny training, and what the trace says of it."""
    folder = tmp_path_factory.mktemp("snapshot")
    (folder / "plan.yaml").write_text(
        json.dumps({"plan": PLAN, "models": {"tiny": CONFIGS["llama"]}})
    )
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as out:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        said = []
        out.setattr("preflight.commands.trace.print_json", lambda answer, _: said.append(answer))
        asked = ["trace", "--plan", "plan.yaml", "--snapshot", "step.pickle", "--format", "json"]
        assert main(asked) == 0
    return pickle.loads((folder / "step.pickle").read_bytes()), said[0]["trace"]


def test_what_is_alive_at_most_is_the_peak_and_every_block_is_freed_as_it_was(traced):
    snapshot, trace = traced
    (events,) = snapshot["device_traces"]
    alive: dict[int, int] = {}
    peak = 0
    for event in events:
        if event["action"] == "alloc":
            assert event["addr"] not in alive
            alive[event["addr"]] = event["size"]
        elif event["action"] == "free_completed":
            assert alive.pop(event["addr"]) == event["size"]
        peak = max(peak, sum(alive.values()))

    assert peak == trace["peak_bytes"]
    assert sum(alive.values()) == trace["timeline"][-1]["end_bytes"]
    named = {frame["name"] for event in events for frame in event["frames"]}
    assert named >= set(trace["timeline"][0]["at_peak"])


def test_pytorchs_own_tool_reads_it(traced):
    snapshot, _ = traced

    assert "= MEM[" in _memory_viz.trace(snapshot)
    assert "<html" in _memory_viz.trace_plot(snapshot).lower()

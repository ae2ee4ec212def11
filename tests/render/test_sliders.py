"""The sliders of a report in a real browser: every place that they are moved to says what the command says."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from html import unescape

import pytest

from preflight.errors import Problem
from preflight.formulas.engines.buckets import at_peak, peaks_of_launch
from preflight.judge import judge_plan
from preflight.pipeline import check_plan
from preflight.plan_dict import plan_from_dict
from preflight.policy import Policy
from preflight.records.folder import CORRECTION_FILE, FOLDER_VARIABLE
from preflight.records.site_correction import SCHEMA, Correction, to_dict
from preflight.render.html_report import report_html
from preflight.render.html_script import exported
from preflight.request import Request
from preflight.search.advise import methods_of
from preflight.studies.piecewise import ROUNDING
from preflight.studies.term_samples import edits_to
from preflight.studies.what_if import by_method, what_if

LLAMA = {
    "model": "meta-llama/Llama-3.1-8B", "engine": "fsdp2", "world_size": 8, "shard_degree": 8,
    "reshard_after_forward": True, "trainer": "transformers", "mixed_precision": "bf16",
    "load_dtype": "bf16", "optimizer": "adamw_torch_fused", "micro_batch_size": 2,
    "seq_len": 4096, "attention": "sdpa", "loss": "full_logits", "device": "a100-sxm-80",
}  # fmt: skip
ZERO3 = {
    **{name: value for name, value in LLAMA.items() if name != "reshard_after_forward"},
    "engine": "zero3", "activation_checkpointing": "full",
}  # fmt: skip
PLANS = {
    "fsdp2": LLAMA,
    "fsdp2, checkpointed, expandable": {
        **LLAMA, "activation_checkpointing": "full", "expandable_segments": True,
    },
    "fsdp2, 70B, evaluated": {
        **LLAMA, "model": "meta-llama/Llama-3.1-70B", "world_size": 32, "shard_degree": 32,
        "num_nodes": 4, "eval_micro_batch_size": 4,
    },
    "fsdp1": {**LLAMA, "engine": "fsdp1"},
    "zero3, offloaded, host known": {
        **ZERO3, "offload_optimizer": "cpu", "offload_params": "cpu", "host_memory_gib": 256,
    },
    "one rank, LoRA": {
        **{name: value for name, value in LLAMA.items() if name != "reshard_after_forward"},
        "engine": "single", "world_size": 1, "shard_degree": 1, "adapter": {"rank": 16},
        "device": "rtx4090-24", "micro_batch_size": 1, "seq_len": 2048,
    },
    "experts": {**LLAMA, "model": "Qwen/Qwen3-30B-A3B", "activation_checkpointing": "full"},
    "eager, a sliding window": {**LLAMA, "model": "google/gemma-3-12b-it", "attention": "eager"},
    "the larger of two attentions": {**LLAMA, "model": "google/gemma-2-9b", "attention": "eager"},
    "a loss in chunks": {**ZERO3, "loss": "fused_linear"},
    "no length divides": {**LLAMA, "seq_len": 4099},
    "sequences split": {
        **LLAMA, "context_parallel_degree": 2, "seq_len": 4096, "shard_degree": 8,
    },
    "a device without CUDA": {
        **LLAMA, "model": "Qwen/Qwen2.5-0.5B", "world_size": 2, "shard_degree": 2, "device": "node:1.9",
    },
    "the optimizer unknown": {**LLAMA, "optimizer": None},
}  # fmt: skip
MOVE = """
<script>
  const seen = PLACES.map((place) => {
    for (const [name, index] of Object.entries(place)) {
      const input = document.querySelector(`[name=${name}]`);
      if (!input) continue;
      input.value = index;
      input.dispatchEvent(new Event("input"));
    }
    const said = document.getElementById("what-if-says");
    const rows = [...document.querySelectorAll("#what-if-bars tr")];
    return {
      words: said.textContent, bytes: said.dataset.bytes,
      phases: Object.fromEntries(rows.map((row) => [row.cells[0].textContent, row.cells[2].dataset.bytes])),
      parts: rows.map((row) => row.querySelectorAll("i").length),
    };
  });
  document.body.textContent = JSON.stringify(seen);
</script></body>
"""


def told_by(document: str) -> list[dict]:
    """Return what a page wrote after it was moved."""
    found = re.search(r"<body>(\[.*\])\s*</body>", document, re.S)
    assert found is not None
    return json.loads(unescape(found[1]))


def moved(text: str, places: list[dict[str, int]]) -> str:
    """Return a page whose sliders are moved by input events, as a hand does."""
    return text.replace("</body>", MOVE.replace("PLACES", json.dumps(places)))


@pytest.mark.launch
@pytest.mark.parametrize("name", PLANS)
def test_a_moved_slider_says_what_the_command_says(name, plugins, browse, tmp_path):
    """At forty places by chance: the verdict, the peak and every phase; exact unless a formula rounds up by token."""
    report = check_plan(plan_from_dict(PLANS[name], "the test"), plugins, Request())
    choices = what_if(report, plugins, Policy())
    chance = random.Random(name)
    places = [
        {axis: chance.randrange(len(values)) for axis, values in choices.axes.items()}
        for _ in range(40)
    ]
    page = tmp_path / "moved.html"
    page.write_text(moved(report_html(report, "check", {"full": choices}), places))
    own = report.plan
    for place, told in zip(places, told_by(browse(page, "--dump-dom")), strict=True):
        at = {axis: values[place[axis]] for axis, values in choices.axes.items()}
        edits = edits_to(own, at["seq_len"], at["micro_batch_size"], at["world_size"])
        judged = judge_plan(own.with_edits(edits), plugins, Policy())
        estimate = judged.estimate
        peaks = peaks_of_launch(estimate, own)

        assert abs(int(told["bytes"]) - estimate.device_peak_bytes) <= ROUNDING, at
        assert told["words"].startswith(f"{judged.verdict.answer.words}: peak "), at
        assert list(told["phases"]) == [peak.phase.value.replace("_", " ") for peak in peaks]
        for peak, said, parts in zip(peaks, told["phases"].values(), told["parts"], strict=True):
            assert abs(int(said) - peak.device_bytes) <= ROUNDING, (at, peak.phase)
            assert parts == sum(1 for size in at_peak(estimate, peak).values() if size)


@pytest.mark.launch
def test_what_this_site_measured_counts_on_the_sliders_too(plugins, browse, tmp_path, monkeypatch):
    """A correction scales what the allocator holds, which the page adds up by itself."""
    measured = Correction(LLAMA["device"], 9, 700 << 20, 9, 0.75, 9, 1.61, 9)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / CORRECTION_FILE).write_text(
        json.dumps({"schema": SCHEMA, "devices": {LLAMA["device"]: to_dict(measured)}})
    )
    report = check_plan(plan_from_dict(LLAMA, "the test"), plugins, Request())

    assert "site_correction" in report.extra
    test_a_moved_slider_says_what_the_command_says("fsdp2", plugins, browse, tmp_path)


def test_most_plans_move_by_a_thirty_second_of_their_length(plugins):
    report = check_plan(plan_from_dict(LLAMA, "the test"), plugins, Request())
    choices = what_if(report, plugins, Policy())

    assert choices.axes["seq_len"] == tuple(range(1024, 16385, 128))
    assert choices.axes["micro_batch_size"] == (1, 2, 4, 8)
    assert choices.axes["world_size"] == (2, 4, 8, 16, 32)


def test_lengths_that_cannot_be_have_no_place(plugins):
    plan = plan_from_dict(PLANS["sequences split"], "the test")
    report = check_plan(plan, plugins, Request())
    choices = what_if(report, plugins, Policy())

    assert all(length % 2 == 0 for length in choices.axes["seq_len"])
    assert "seq_len" in choices.axes


@pytest.mark.launch
def test_a_chosen_method_says_what_the_command_says_of_it(plugins, browse, tmp_path):
    """Full training of 8B on one card of 24 GiB turns green where LoRA or QLoRA is chosen, at its own places."""
    alone = {
        **{name: value for name, value in LLAMA.items() if name != "reshard_after_forward"},
        "engine": "single", "world_size": 1, "shard_degree": 1, "device": "rtx4090-24",
        "activation_checkpointing": "full", "micro_batch_size": 1, "seq_len": 1024, "trainer": "trl",
    }  # fmt: skip
    report = check_plan(plan_from_dict(alone, "the test"), plugins, Request())
    methods = by_method(report, plugins, Policy())
    assert list(methods) == ["full", "lora", "qlora"]
    page = tmp_path / "chosen.html"
    places = [{"method": number, "seq_len": 0} for number in range(3)]
    page.write_text(moved(report_html(report, "check", methods), places))
    ladder = methods_of(report.plan, report.model, report.device, plugins, Policy())
    edits = {method: remedy.edits for method, remedy in ladder if remedy is not None}
    told = told_by(browse(page, "--dump-dom"))

    for method, said in zip(methods, told, strict=True):
        length = methods[method].axes["seq_len"][0]
        plan = report.plan.with_edits({**edits.get(method, {}), "seq_len": length})
        judged = judge_plan(plan, plugins, Policy())
        assert abs(int(said["bytes"]) - judged.estimate.device_peak_bytes) <= ROUNDING
        assert said["words"].startswith(f"{judged.verdict.answer.words}: peak ")
    assert [each["words"].partition(":")[0] for each in told] == ["does not fit", "fits", "fits"]


def test_what_is_not_priced_is_never_said_to_fit_by_a_slider(plugins):
    """The head of the page says unknown; moved to a place that is small enough, it said fits."""
    plan = plan_from_dict(LLAMA, "the test")
    left_out = Problem.left_out("a tower is not counted", "here", "a tower", "more")
    report = check_plan(replace(plan, notices=(left_out,)), plugins, Request())
    exports = exported(what_if(report, plugins, Policy()))

    assert exports["missing"] and not exports["may_take_less"]

"""What a search finds holds in every release that the launch may have, not only in those at the ends as written."""

from __future__ import annotations

import shlex

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch, check_plan
from preflight.plugins import load_plugins
from preflight.report import Report
from preflight.request import Request
from preflight.verdict import Answer

# What this environment has is not known here, whatever is installed.
SFT = "/nodes/venv/bin/trl sft --dataset_name x/y --per_device_train_batch_size {} --num_processes {} --model_name_or_path "
LAUNCHES = {
    # Older TRL checkpoints nothing by itself, so that what FSDP2 and the host make of it fits in newer releases alone.
    "dies while it loads": (SFT.format(1, 8) + "meta-llama/Llama-3.1-70B", "h100-sxm-80"),
    "dies in a step": (SFT.format(4, 2) + "Qwen/Qwen2.5-7B --max_length 4096", "a100-sxm-80"),
    "one card": (SFT.format(8, 1) + "Qwen/Qwen2.5-1.5B --max_length 2048", "rtx-4090-24"),
}


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Report]:
    plugins, folder = load_plugins(), str(tmp_path_factory.mktemp("launch"))
    return {
        name: check_launch(
            LaunchCommand(tuple(shlex.split(words)), {}, folder), plugins, Request(device=device)
        )
        for name, (words, device) in LAUNCHES.items()
    }


def test_the_versions_are_open(reports):
    assert all(
        report.readings is not None and "versions" in report.readings.may_be
        for report in reports.values()
    )


@pytest.mark.parametrize("name", LAUNCHES)
def test_what_is_suggested_and_applied_fits_in_every_release(name, reports):
    report, plugins = reports[name], load_plugins()
    said_to_fit = [
        tried
        for tried in (*report.suggested, *report.applied[-1:])
        if tried.verdict.answer is Answer.FITS
    ]

    assert said_to_fit
    for tried in said_to_fit:
        edits = {**report.plan.to_dict(), **tried.plan.to_dict()}
        changed = {
            n: v for n, v in edits.items() if report.plan.is_changed_by({n: getattr(tried.plan, n)})
        }
        plan = report.plan.with_edits(
            {n: getattr(tried.plan, n) for n in changed if n != "versions"}
        )
        assert check_plan(plan, plugins, Request()).verdict.answer is Answer.FITS, tried.remedy.id


def test_a_lever_is_written_beside_the_one_that_it_needs(reports):
    """Keeping layer inputs on the host has no flag here; parameters go there beside the FSDP2 that shards them."""
    report = reports["dies while it loads"]
    ids = [tried.remedy.id for tried in report.applied]

    assert ids == ["sharding", "activation_checkpointing", "offload_optimizer"]
    assert report.final_verdict.answer is Answer.FITS and report.rewrite is not None
    assert {"--fsdp_offload_params", "--gradient_checkpointing"} <= set(report.rewrite.argv)

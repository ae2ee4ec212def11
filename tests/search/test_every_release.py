"""What a search finds holds in every release that the launch may have, not only in those at the ends as written."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from preflight.launch import LaunchCommand
from preflight.pipeline import check_launch, check_plan
from preflight.plugins import load_plugins
from preflight.report import Report
from preflight.request import Request
from preflight.rewriting import rewritten_command
from preflight.verdict import Answer

# What this environment has is not known here, whatever is installed.
SFT = "/nodes/venv/bin/trl sft --dataset_name x/y --per_device_train_batch_size {} --num_processes {} --model_name_or_path "
LAUNCHES = {
    # Older TRL checkpoints nothing by itself, so that what FSDP2 and the host make of it fits in newer releases alone.
    "dies while it loads": (SFT.format(1, 8) + "meta-llama/Llama-3.1-70B", "h100-sxm-80"),
    "dies in a step": (SFT.format(4, 2) + "Qwen/Qwen2.5-7B --max_length 4096", "a100-sxm-80"),
    "a trainer's own FSDP": (
        "/nodes/venv/bin/torchrun --nproc_per_node 4 train.py --model_name_or_path facebook/opt-6.7b"
        " --per_device_train_batch_size 4 --max_length 2048 --gradient_checkpointing true",
        "a100-sxm-40",
    ),
    # FSDP2 saves most of it, and a reference model under it is not priced before TRL 0.29: no hardening of this launch.
    "tight as written": (
        "/nodes/venv/bin/trl dpo --model_name_or_path microsoft/phi-2 --dataset_name x/y --dtype float32"
        " --per_device_train_batch_size 1 --max_length 8192 --gradient_checkpointing true"
        " --optim adamw_torch --num_processes 8",
        "a100-sxm-80",
    ),
    "one card": (SFT.format(8, 1) + "Qwen/Qwen2.5-1.5B --max_length 2048", "rtx-4090-24"),
}
SCRIPT = """\
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

config, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model=model.model_name_or_path, args=config).train()
"""


def command_of(words: str, folder: Path) -> LaunchCommand:
    return LaunchCommand(tuple(shlex.split(words)), {}, str(folder))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made: Path = tmp_path_factory.mktemp("launch")
    (made / "train.py").write_text(SCRIPT)
    return made


@pytest.fixture(scope="module")
def reports(folder) -> dict[str, Report]:
    plugins = load_plugins()
    return {
        name: check_launch(command_of(words, folder), plugins, Request(device=device))
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
        made = {name: getattr(tried.plan, name) for name in tried.plan.to_dict()}
        edits = {n: v for n, v in made.items() if report.plan.is_changed_by({n: v})}
        edits.pop("versions")
        again = check_plan(report.plan.with_edits(edits), plugins, Request())
        assert again.verdict.answer is Answer.FITS, tried.remedy.id


@pytest.mark.parametrize("name", [name for name in LAUNCHES if name != "one card"])
def test_what_is_written_is_answered_as_was_said(name, reports, folder):
    """A flag may be read another way in another release: `--fsdp full_shard` alone makes one unit of a model in older ones."""
    report = reports[name]
    words, device = LAUNCHES[name]
    assert report.rewrite is not None
    written = rewritten_command(command_of(words, folder), report.rewrite)
    again = check_launch(written, load_plugins(), Request(device=device))

    assert again.verdict.answer in (Answer.FITS, Answer.TIGHT)
    assert again.verdict.answer is report.final_verdict.answer


def test_a_lever_is_written_beside_the_one_that_it_needs(reports):
    """Keeping layer inputs on the host has no flag here; parameters go there beside the FSDP2 that shards them."""
    report = reports["dies while it loads"]
    ids = [tried.remedy.id for tried in report.applied]

    assert ids == ["sharding", "activation_checkpointing", "offload_optimizer"]
    assert report.final_verdict.answer is Answer.FITS and report.rewrite is not None
    assert {"--fsdp_offload_params", "--gradient_checkpointing"} <= set(report.rewrite.argv)

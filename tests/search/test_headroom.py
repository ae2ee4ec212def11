"""`fix --use-headroom`: the fastest plan that still fits, written as `fix` writes, and never by `run` or `check`."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest
import yaml
from in_process import preflight
from test_lattice import START
from toy import preflight as in_own_process

from preflight.devices.step_time import estimate_step_time
from preflight.judge import judge_plan
from preflight.policy import Policy
from preflight.report import Report
from preflight.rewrite import Rewrite
from preflight.search.headroom import NOTHING_FASTER, WORTH_A_CHANGE, upward_edits, use_headroom
from preflight.verdict import Answer

FSDP2 = {
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "FSDP",
    "fsdp_config": {
        "fsdp_version": 2,
        "fsdp_reshard_after_forward": True,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    },
    "mixed_precision": "bf16",
    "num_machines": 1,
    "num_processes": 8,
}
COMMAND = [
    *["accelerate", "launch", "--config_file", "fsdp2.yaml", "train.py"],
    *["--model_name_or_path", "meta-llama/Llama-3.1-8B", "--bf16", "true", "--max_length", "2048"],
    *[
        "--per_device_train_batch_size",
        "1",
        "--gradient_accumulation_steps",
        "16",
        "--output_dir",
        "out",
    ],
]
SAVING = replace(
    START,
    reshard_after_forward=True,
    micro_batch_size=1,
    seq_len=2048,
    gradient_accumulation_steps=12,
    activation_checkpointing="full",
)
PLANS = {
    "8B, room for all": SAVING,
    "8B, room for some": replace(SAVING, device="a6000-48"),
    "8B, no room": replace(SAVING, gradient_accumulation_steps=1, activation_checkpointing="none"),
    "8B from the host": replace(SAVING, offload_params="cpu", offload_optimizer="cpu"),
    "1B on one card": replace(
        SAVING,
        model="meta-llama/Llama-3.2-1B",
        engine="single",
        world_size=1,
        shard_degree=1,
        reshard_after_forward=None,
        device="rtx4090-24",
    ),
    "8B by torchtitan": replace(SAVING, trainer="torchtitan", sequence_kind="fixed"),
    "70B on 64, inputs on the host": replace(
        SAVING,
        model="meta-llama/Llama-3.1-70B",
        world_size=64,
        num_nodes=8,
        shard_degree=64,
        offload_activations="cpu",
        sync_each_batch=True,
    ),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "fsdp2.yaml").write_text(yaml.safe_dump(FSDP2))
    (tmp_path / "train.py").write_text(
        "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
    )
    return tmp_path


def written_as_is(before, after, plugins) -> Rewrite:
    """A launch whose every edit can be written."""
    return Rewrite(argv=("train",))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_plan_found_is_the_fastest_of_all_that_fit(plan, plugins):
    start = judge_plan(plan, plugins, Policy())
    assert start.verdict.answer is Answer.FITS
    report = Report(plan=start.plan, verdict=start.verdict, may_launch=True)
    found = use_headroom(report, start, plugins, Policy(), write=written_as_is)
    written = estimate_step_time(start.plan, start.model, start.device)
    factors = []
    for path in product(*upward_edits(start.plan)):
        after = start.plan
        for remedy in path:
            after = after if remedy is None else after.with_edits(remedy.edits)
        judged = judge_plan(after, plugins, Policy(), start.model, start.device)
        if judged.verdict.answer is Answer.FITS:
            time = estimate_step_time(after, start.model, start.device)
            factors.append(time.factor_of(written))
    best = min(factors, default=1.0)
    factor = found.applied[-1].step_time_factor if found.applied else 1.0

    assert factor <= 1.0
    if best < WORTH_A_CHANGE:
        assert factor == pytest.approx(best, abs=0.01)
        assert found.final_verdict.answer is Answer.FITS
    else:
        assert not found.applied


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_global_batch_stays(plan):
    for ways in upward_edits(plan):
        for remedy in ways:
            after = plan if remedy is None else plan.with_edits(remedy.edits)

            assert after.global_batch_size == plan.global_batch_size


def test_a_loss_that_averages_micro_batches_keeps_them():
    plan = replace(SAVING, trainer="plain_loop", sequence_kind="padded")
    ids = [remedy.id for ways in upward_edits(plan) for remedy in ways if remedy is not None]

    assert "larger_micro_batch" not in ids
    assert "no_recomputation" in ids


def test_fix_writes_a_faster_launch_and_says_what_it_costs(folder):
    words = [*COMMAND, "--gradient_checkpointing", "true"]
    done = preflight(folder, "fix", "--use-headroom", "--device", "h100-sxm-80", "--", *words)
    started = done.stdout.split()

    assert done.returncode == 0, done.stderr
    assert started[started.index("--gradient_checkpointing") + 1] == "false"
    assert int(started[started.index("--per_device_train_batch_size") + 1]) > 1
    assert "no_recomputation" in done.stderr
    assert "step time about x0." in done.stderr


def test_what_was_written_fits_when_it_is_checked_and_leaves_nothing_more_to_take(folder):
    words = [*COMMAND, "--gradient_checkpointing", "true"]
    once = preflight(folder, "fix", "--use-headroom", "--device", "h100-sxm-80", "--", *words)
    again = preflight(
        folder, "fix", "--use-headroom", "--device", "h100-sxm-80", "--", *once.stdout.split()
    )

    assert again.stdout.split() == once.stdout.split()
    assert NOTHING_FASTER in " ".join(again.stderr.split())


def test_json_says_the_factor_and_the_peak(folder):
    words = ["fix", "--use-headroom", "--format", "json", "--device", "h100-sxm-80", "--"]
    applied = json.loads(preflight(folder, *words, *COMMAND).stdout)["applied"]

    assert applied[-1]["id"] == "larger_micro_batch"
    assert applied[-1]["step_time_factor"] < WORTH_A_CHANGE
    assert applied[-1]["verdict"] == "fits"


def test_a_forbidden_change_is_not_made(folder):
    words = ["--device", "h100-sxm-80", "--", *COMMAND, "--gradient_checkpointing", "true"]
    done = preflight(folder, "fix", "--use-headroom", "--forbid", "no_recomputation", *words)

    assert done.returncode == 0, done.stderr
    assert "no_recomputation" not in done.stderr
    assert "larger_micro_batch" in done.stderr


@pytest.mark.parametrize("door", ["run", "check"])
def test_only_fix_takes_the_option(folder, door):
    done = in_own_process(folder, door, "--use-headroom", "--device", "h100-sxm-80", "--", *COMMAND)

    assert done.returncode in (2, 78)
    assert "--use-headroom" in done.stderr

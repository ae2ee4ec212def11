"""A launch that fits is started as it was typed, and its ranks get what the plan says."""

from __future__ import annotations

import math

import pytest
from agreement import differences, sharding_differences
from cases import Case
from checked_launch import ROOMY_DEVICE
from harness import ACCELERATE_LAUNCH, MODULE_LAUNCH

FITTING = [
    Case("single.yaml", "train_trainer.py", "--gradient_accumulation_steps 2"),
    Case("ddp.yaml", "train_loop.py", "--gradient_accumulation_steps 2", launcher=MODULE_LAUNCH),
    Case(
        "fsdp1.yaml",
        "train_sft.py",
        "--use_peft --lora_r 8 --lora_target_modules q_proj k_proj",
        launcher=ACCELERATE_LAUNCH,
    ),
    Case("fsdp2.yaml", "train_trainer.py", "--bf16 True", "--num_processes 4"),
    Case("zero1.yaml", "train_trainer.py", "--gradient_checkpointing --bf16 True"),
    Case("zero2.yaml", "train_sft.py", "--gradient-checkpointing=False"),
    Case("zero3.yaml", "train_sft.py", "--use_peft --gradient_accumulation_steps 2"),
]

NOTHING_FORKED = {"ddp.yaml", "fsdp1.yaml", "zero3.yaml"}
"""One of each kind of engine has ranks that import their libraries themselves."""


@pytest.mark.launch
@pytest.mark.parametrize("case", FITTING, ids=lambda case: case.id)
def test_a_launch_that_fits_runs_as_typed_and_as_planned(case, preflight, workplace, forked):
    preflight.variables = {} if case.config in NOTHING_FORKED else forked
    command = case.command(workplace)
    report = preflight.check(command)
    launched = preflight.run(command, ROOMY_DEVICE)

    assert report["verdict"] == "fits"
    assert launched.exit_code == 0, launched.stderr[-4000:]
    assert differences(report["plan"], launched) == []
    assert sharding_differences(report, launched) == []
    assert all(math.isfinite(loss) for rank in launched.ranks for loss in rank["losses"])
    assert launched.left_pids == ()

    # The launcher is the process that preflight was, with the command as typed; stdout is its own.
    preflights_own, launcher = launched.processes[:2]
    assert preflights_own["pid"] == launcher["pid"]
    assert launcher["argv"][-len(command) :] == command
    assert launched.stderr.startswith("preflight: fits")
    assert "preflight" not in launched.stdout
    assert "trained: loss" in launched.stdout
    assert not (workplace.path / ".preflight").exists()

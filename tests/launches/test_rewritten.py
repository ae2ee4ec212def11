"""A launch that safe changes make fit is started rewritten, and its ranks get the changes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from agreement import differences, sharding_differences
from cases import Case
from checked_launch import device_between

ONE = "--max_length 512 --per_device_train_batch_size 1"
TWO = "--max_length 512 --per_device_train_batch_size 2"
EIGHT = "--max_length 256 --per_device_train_batch_size 8"
"""Enough tokens that activations decide, not model states; a micro batch of one cannot get smaller."""


@dataclass(frozen=True)
class Rewriting:
    """A launch, and the remedies that the device leaves no way around."""

    case: Case
    remedies: tuple[str, ...]

    @property
    def id(self) -> str:
        return f"{self.case.id}-{'+'.join(self.remedies)}"


CHECKPOINTING = ("activation_checkpointing",)
MICRO_BATCH = ("micro_batch",)
BOTH = CHECKPOINTING + MICRO_BATCH

REWRITINGS = [
    Rewriting(Case("fsdp2.yaml", "train_trainer.py", ONE), CHECKPOINTING),
    Rewriting(Case("fsdp2.yaml", "train_sft.py", EIGHT), MICRO_BATCH),
    Rewriting(Case("fsdp1.yaml", "train_trainer.py", TWO), CHECKPOINTING),
    Rewriting(
        Case("ddp.yaml", "train_sft.py", f"{TWO} --use_peft --gradient_checkpointing False"), BOTH
    ),
    Rewriting(Case("zero2.yaml", "train_trainer.py", ONE), CHECKPOINTING),
    Rewriting(Case("zero3.yaml", "train_trainer.py", TWO), BOTH),
]


def edits_of(remedy: str, plan: dict) -> dict:
    """Return what a remedy does to a plan, said here once more."""
    if remedy == "activation_checkpointing":
        return {"activation_checkpointing": "full"}
    return {
        "micro_batch_size": plan["micro_batch_size"] // 2,
        "gradient_accumulation_steps": plan["gradient_accumulation_steps"] * 2,
    }


@pytest.mark.launch
@pytest.mark.parametrize("rewriting", REWRITINGS, ids=lambda rewriting: rewriting.id)
def test_a_rewritten_launch_gets_its_remedies_and_keeps_its_batch(
    rewriting, preflight, workplace, forked
):
    preflight.variables = forked
    command = rewriting.case.command(workplace)
    as_written = preflight.check(command)
    plan = as_written["plan"]

    # The device has room for the launch with all its remedies and for none with one fewer.
    def peak_with(remedies):
        edits = {name: value for r in remedies for name, value in edits_of(r, plan).items()}
        report = preflight.check(command, settings=edits)
        return report["estimate"]["device_peak_bytes"]

    enough = peak_with(rewriting.remedies)
    subsets = [[r for r in rewriting.remedies if r != left_out] for left_out in rewriting.remedies]
    device = device_between(enough, min(peak_with(remedies) for remedies in subsets))

    report = preflight.check(command, device)
    launched = preflight.run(command, device)
    rewritten = {**plan}
    for applied in report["applied"]:
        rewritten.update(applied["edits"])

    assert report["verdict"] == "does_not_fit"
    assert report["may_launch"] is True
    assert {applied["id"] for applied in report["applied"]} == set(rewriting.remedies)
    assert launched.exit_code == 0, launched.stderr[-4000:]
    assert differences(rewritten, launched) == []
    assert sharding_differences(as_written, launched) == []
    assert global_batch_size(launched.plan_seen) == global_batch_size(plan)
    assert launched.left_pids == ()

    # Proofs that do not pass through the plan: the MLPs ran twice, the micro steps doubled.
    facts = launched.ranks[0]
    recomputes = facts["num_mlp_calls"] == 2 * facts["num_layers"] * facts["num_micro_steps"]
    assert recomputes is (rewritten["activation_checkpointing"] == "full")
    assert facts["num_micro_steps"] == 2 * rewritten["gradient_accumulation_steps"]
    if facts["global_batch_size"] is not None:
        assert facts["global_batch_size"] == global_batch_size(plan)

    # The same process became the launcher, with the argv that check had shown.
    assert launched.processes[0]["pid"] == launched.processes[1]["pid"]
    assert launched.processes[1]["argv"][1:] == report["rewrite"]["argv"]
    assert "trained: loss" in launched.stdout
    assert "preflight" not in launched.stdout


def global_batch_size(plan: dict) -> int:
    """Return sequences per optimizer step."""
    return plan["micro_batch_size"] * plan["gradient_accumulation_steps"] * plan["world_size"]

"""Two forwards before one backward, on real ranks: gradients of one wait whole for the other's before an engine sees them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import test_real_ranks as real_ranks
from small_llama import ZERO

from preflight.formulas.layers.heads import with_head
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, Level
from preflight.models import describe

CASES = {
    "fsdp2": {"engine": "fsdp2", "reshard": True},
    "fsdp2, accumulating": {"engine": "fsdp2", "reshard": True, "accumulation": 2},
    "fsdp1": {"engine": "fsdp1", "reshard": "FULL_SHARD"},
    "zero2": {"engine": "zero2", "zero": ZERO},
    "zero2, accumulating": {"engine": "zero2", "zero": ZERO, "accumulation": 2},
    "zero3": {"engine": "zero3", "zero": ZERO, "fused": True},
    "zero3, checkpointed": {
        "engine": "zero3", "zero": ZERO, "fused": True, "checkpointing": True,
    },
}  # fmt: skip
WORLD = 2
TOO_LOW, TOO_HIGH = 0.02, 0.08
"""Of all bytes at the worst moment of forward and backward: ZeRO-2's flat bucket is not full yet where gradients wait."""


@pytest.fixture(scope="module")
def measured(ranks) -> dict[str, dict]:
    common = {"config": real_ranks.CONFIG, "micro": 2, "length": real_ranks.LENGTH, "in_turn": True}
    given = [{**common, "name": name, **case} for name, case in CASES.items()]
    printed = ranks.printed(real_ranks.SCRIPT, json.dumps(given), world=WORLD)
    results: dict[str, dict] = json.loads(printed.splitlines()[-1])
    return results


def plan_of(name: str) -> LaunchPlan:
    case = CASES[name]
    return replace(
        real_ranks.plan_of(case, WORLD),
        objective="scored_in_turn",
        micro_batch_size=1,
        activation_checkpointing="full" if case.get("checkpointing") else "none",
    )


@pytest.mark.launch
@pytest.mark.parametrize("name", CASES)
def test_gradients_that_wait_are_counted(name, measured, plugins):
    plan = plan_of(name)
    model = with_head(plan, describe(real_ranks.CONFIG, "tiny", "test"))
    estimate = estimate_memory(plan, model, None, plugins)
    ours = max(
        sum(term.num_bytes for term in estimate.terms_at(moment) if term.level is Level.ALLOCATED)
        for moment in STEP_MOMENTS
    )
    parts = measured[name]["peaks"].items()
    real = max(peak for part, peak in parts if part not in ("optimizer_step", "between"))

    assert -TOO_LOW <= ours / real - 1 <= TOO_HIGH


def test_nothing_waits_where_each_layer_goes_back_on_its_own(plugins):
    plan = replace(plan_of("zero3, checkpointed"), checkpointing_reentrant=True)
    model = with_head(plan, describe(real_ranks.CONFIG, "tiny", "test"))
    terms = estimate_memory(plan, model, None, plugins).terms

    assert not [term for term in terms if term.name.startswith("gradients that wait")]

"""Steps of NeMo Automodel's, counted on gloo ranks, are within the most that its launches are said to take.

divided_automodel.py makes the rows again, from the wheel of 0.7.0.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from divided_sizes import SIZES
from recorded import recorded
from test_divided_steps import STEP, predicted

from preflight.errors import Problem
from preflight.formulas.automodel import WORKSPACES
from preflight.formulas.limits.bounds import dearest_of
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.launchers.automodel.plan import OWN_CODE
from preflight.memory import Level
from preflight.models import describe
from preflight.plan_parts import Adapter

ROWS = recorded("automodel_steps.jsonl")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def plan_of(row: dict[str, Any]) -> LaunchPlan:
    """Return the plan that Automodel's reader makes of such a launch."""
    tensor = row.get("tensor", 1)
    return LaunchPlan(
        launcher="automodel",
        trainer="plain_loop",
        engine="fsdp2",
        world_size=row["ranks"],
        shard_degree=row["ranks"] // tensor,
        tensor_parallel_degree=tensor,
        load_dtype=row["stored"],
        master_dtype=row["stored"],
        mixed_precision="bf16",
        reduce_dtype="fp32",
        reshard_after_forward="default",
        wrap_policy="transformer",
        sync_each_batch=False,
        attention="sdpa",
        loss="chunked_ce" if "chunk" in row else "full_logits",
        optimizer="adamw_torch_fused",
        max_grad_norm=1.0,
        micro_batch_size=row["batch"],
        seq_len=row["length"],
        sequence_kind="fixed",
        activation_checkpointing=row["checkpointing"],
        adapter=Adapter(rank=row["lora"], targets=PROJECTIONS, dtype=row["stored"])
        if "lora" in row
        else None,
        versions={"transformers": "5.18.0", "torch": "2.13.0"},
        notices=(
            Problem.left_out(OWN_CODE.message, "full.yaml", OWN_CODE.unpriced, OWN_CODE.takes),
        ),
    )


def most_of(row: dict[str, Any], plugins: Any) -> int:
    """Return the most that a step is said to take, without what lies outside the counted tensors."""
    sizes = {**SIZES, **row.get("sizes", {}), "num_hidden_layers": row["layers"]}
    plan, model = plan_of(row), describe(sizes, "tiny", "test")
    dearest = dearest_of(plan, model, {})
    assert dearest is not None
    estimate = estimate_memory(dearest.plan, model, None, plugins)
    return (
        max(
            predicted(estimate, moment)
            + sum(
                t.num_bytes
                for t in dearest.terms
                if moment in t.moments and t.level is Level.ALLOCATED
            )
            for moment in STEP
        )
        - WORKSPACES
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['ranks']} {json.dumps(row)}"[:90])
def test_a_step_takes_no_more_than_the_most_it_may(row: dict[str, Any], plugins: Any) -> None:
    most = most_of(row, plugins)

    assert row["peak"] <= most <= 1.6 * row["peak"]

"""GRPO of ms-swift: steps of its own trainer that were measured, beside the estimate of rollout, scoring and update.

swift_rollouts.py makes a row again, in an environment with that release and the transformers of its day.
"""

from __future__ import annotations

import pytest
from recorded import recorded
from swift_rollouts import case_of
from test_rollouts import estimate, parts_of

from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.launch import Adapter, Generation, LaunchPlan

ROWS = recorded("swift_rollouts.jsonl")
TOLERANCE = 0.02
OLDER = 0.035
"""Before transformers 5, whose cache grows otherwise, and under LoRA beside few logits."""


def plan_of(row: dict) -> LaunchPlan:
    case = case_of(row["name"])
    rank = case.get("rank")
    reference = "adapter_off" if rank else "same"
    return LaunchPlan(
        objective="grpo", trainer="transformers", launcher="swift",
        versions={"ms_swift": row["ms_swift"], "transformers": row["transformers"], "torch": "2.13.0"},
        load_dtype=case["load"], mixed_precision="bf16" if case.get("autocast") else "no",
        micro_batch_size=case["micro"], seq_len=case["prompt"] + case["completion"],
        gradient_accumulation_steps=case.get("accumulation", 1), attention="sdpa", sequence_kind="fixed",
        activation_checkpointing="full" if case.get("checkpointing") else "none",
        checkpointing_reentrant=False, loss="full_logits", optimizer="adamw_torch", optimizer_kernel="for_loop",
        adapter=Adapter(rank=rank, targets=("q_proj", "v_proj")) if rank else None,
        reference_model="none" if case.get("beta") == 0.0 else reference,
        generation=Generation(max_completion_len=case["completion"], scores_again=True),
    )  # fmt: skip


@pytest.mark.parametrize("part", ["rollout", "scoring", "update"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}, {row['ms_swift']}")
def test_every_part_of_a_step_is_priced(row, part):
    plan, peaks = plan_of(row), row["peaks"]
    update = max(peaks[part] for part in ("forward", "backward", "optimizer"))
    counted = {**peaks, "update": update}[part]

    assert not unpriced_objective(plan)
    tolerance = OLDER if row["transformers"] < "5" else TOLERANCE
    assert parts_of(estimate(plan))[part] == pytest.approx(counted, rel=tolerance)


def test_zero3_gathers_the_whole_policy_for_an_engine():
    generation = Generation(engine="vllm", memory_share=0.3, max_completion_len=12)
    whole = {term.name: term.num_bytes for term in estimate(plan_of(ROWS[0])).terms}
    sharded = {"engine": "zero3", "world_size": 8, "shard_degree": 8, "mixed_precision": "bf16"}
    terms = {
        t.name: t.num_bytes
        for t in estimate(plan_of(ROWS[0]).with_edits({**sharded, "generation": generation})).terms
    }

    assert (
        terms["policy's parameters on their way to the engine"]
        == whole["parameters of the reference model"]
    )

"""Every common kind of training under every engine, on TRL's own trainers and two real ranks: kept rows beside the estimate.

engine_steps.py makes a row again.
"""

from __future__ import annotations

import pytest
from engine_steps import ENGINES, KINDS, NOT_RUN, ONLINE, case_of
from recorded import recorded
from small_llama import ZERO
from test_objectives import predicted

from preflight.launch import Adapter, DeepSpeedSettings, Generation, LaunchPlan
from preflight.memory import Moment

ROWS = recorded("engine_steps.jsonl")
TOLERANCE = 0.02


def plan_of(row: dict) -> LaunchPlan:
    case, engine = case_of(row["name"]), row["engine"]
    objective, rank = case["objective"], case.get("rank")
    is_online, is_alone = objective in ONLINE, engine == "single"
    reference = None
    if is_online:
        reference = "same" if rank is None else "adapter_off"
        reference = reference if case.get("beta") else "none"
    return LaunchPlan(
        objective=objective, trainer="trl", engine=engine, world_size=1 if is_alone else 2,
        shard_degree=1 if engine in ("single", "ddp") else 2, reshard_after_forward=True,
        versions={"trl": row["trl"], "transformers": row["transformers"], "torch": "2.13.0"},
        load_dtype=case["load"], mixed_precision="bf16", micro_batch_size=case["micro"],
        seq_len=case["length"], attention="sdpa", sequence_kind="fixed", backward_prefetch="none", activation_checkpointing="none",
        loss="full_logits" if objective == "reward" else "chunked_linear",
        adapter=Adapter(rank=rank, targets=("q_proj", "v_proj")) if rank else None,
        reference_model=reference,
        deepspeed=DeepSpeedSettings(**{**ZERO, **case.get("zero", {})}) if engine.startswith("zero") else None,
        generation=Generation(max_completion_len=case["completion"], scores_again=objective == "rloo") if is_online else None,
    )  # fmt: skip


def estimated(row: dict) -> dict[str, int]:
    """Return what is estimated at every moment of a row's step, its rollout included."""
    case = case_of(row["name"])
    online = (Moment.ROLLOUT, Moment.SCORING) if case["objective"] in ONLINE else ()
    return predicted(plan_of(row), case["config"], *online)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}, {row['engine']}")
def test_the_worst_moment_under_an_engine_is_priced(row):
    error = max(estimated(row).values()) / row["peaks"]["step"] - 1

    assert abs(error) <= TOLERANCE


def test_every_kind_was_counted_under_every_engine():
    counted = {(row["name"], row["engine"]) for row in ROWS}

    assert counted | {*NOT_RUN} == {
        (name, engine) for name, case in KINDS.items() for engine in case.get("engines", ENGINES)
    }

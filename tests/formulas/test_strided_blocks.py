"""Steps of axolotl's strided EBFT trainer, counted on the CPU, are within the most that its launches are said to take.

strided_steps.py makes the rows again, from the trainer of axolotl 0.18.0.
"""

from __future__ import annotations

from typing import Any

import pytest
from recorded import recorded

from preflight.errors import Problem
from preflight.formulas.limits.bounds import dearest_of
from preflight.judge import collect_terms
from preflight.launch import LaunchPlan, TrainerFacts
from preflight.memory import Level, Moment
from preflight.models import describe
from preflight.plan_parts import Adapter
from preflight.plugins import load_plugins
from preflight.setting import Place, Setting
from preflight.unpriced_names import STRIDED
from preflight.values import replace

ROWS = recorded("strided_steps.jsonl")
PLUGINS = load_plugins()
PARTS = {
    "sampling": (Moment.FORWARD,),
    "features": (Moment.LOSS_FORWARD,),
    "backward": (Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD, Moment.LAST_LAYER_BACKWARD),
}


def plan_of(row: dict[str, Any], **more: Any) -> LaunchPlan:
    """Return the plan that axolotl's reader makes of such a launch, with some changes."""
    samples = Setting(row["samples"], Place("yaml", "config.yaml", "ebft"))
    plan = LaunchPlan(
        launcher="axolotl",
        trainer="transformers",
        engine="single",
        load_dtype="bf16",
        mixed_precision="bf16",
        attention="flash_attention_2",
        loss="full_logits",
        optimizer="adamw_torch_fused",
        micro_batch_size=row["batch"],
        gradient_accumulation_steps=2,
        seq_len=row["length"],
        activation_checkpointing="full",
        checkpointing_reentrant=True,
        adapter=Adapter(rank=8, targets="all-linear") if row["adapter"] else None,
        trainer_facts=TrainerFacts(arguments={"ebft_n_samples_per_prompt": samples}),
        notices=(Problem.left_out("blocks", "config.yaml", STRIDED, "either"),),
    )
    return replace(plan, **more)


def model_of(row: dict[str, Any]):
    sizes = {
        "model_type": "llama", "hidden_size": row["hidden"], "intermediate_size": 3 * row["hidden"],
        "num_hidden_layers": row["layers"], "num_attention_heads": row["heads"], "num_key_value_heads": 2,
        "vocab_size": row["vocab"], "tie_word_embeddings": False,
    }  # fmt: skip
    return describe(sizes, "small", "here")


def most_of(row: dict[str, Any], **more: Any) -> dict[Moment, int]:
    """Return the most that tensors are said to take at each moment of a second step."""
    model = model_of(row)
    dearest = dearest_of(plan_of(row, **more), model, {})
    assert dearest is not None and dearest.names == {STRIDED}
    terms = dearest.terms_beside(collect_terms(dearest.plan, model, PLUGINS))
    inside = [term for term in terms if term.level is Level.ALLOCATED]
    return {m: sum(t.num_bytes for t in inside if m in t.moments) for m in Moment}


@pytest.mark.parametrize("row", ROWS, ids=range(len(ROWS)))
def test_a_counted_step_is_within_the_most(row):
    most = most_of(row)

    for part, moments in PARTS.items():
        said = max(most[moment] for moment in moments)
        assert row["peaks"][part] <= said <= 3 * row["peaks"][part], part


def test_another_rank_has_its_features_beside_this_ones_step():
    alone, beside = (
        most_of(ROWS[0], world_size=n, engine=e) for n, e in ((1, "single"), (2, "ddp"))
    )
    copy = 2 * model_of(ROWS[0]).num_params

    assert beside[Moment.OPTIMIZER_STEP] - alone[Moment.OPTIMIZER_STEP] > copy


@pytest.mark.parametrize(
    "more",
    [{"torch_compile": True}, {"seq_len": None}, {"load_dtype": "fp32"}, {"engine": "fsdp2"}],
)
def test_what_nobody_counted_has_no_bound(more):
    assert dearest_of(plan_of(ROWS[0], **more), model_of(ROWS[0]), {}) is None

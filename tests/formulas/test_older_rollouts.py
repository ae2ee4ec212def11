"""GRPO of older releases of TRL: what its own trainer was counted with, beside the estimate.

rollout_steps.py makes a row again in an environment with its releases (`dtype_key` torch_dtype); before TRL 0.22 it marks
rollout and scoring as one part. Before 0.18 a token is drawn of the 50 likeliest unless `--top_k` says otherwise, which
takes 9 bytes more of each row's logits: a part of a rollout that a tiny model shows, and no other.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import recorded
from small_llama import LLAMA
from some_plugins import plugins_of
from test_rollouts import TOLERANCE, plan_of

from preflight.formulas.engines.rollouts import num_completions
from preflight.formulas.limits.bounds import dearest_of
from preflight.formulas.limits.left_out import with_left_out
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objective import num_sequences, tokens_with_logits
from preflight.judge import estimate_memory
from preflight.launch import LaunchPlan
from preflight.launch_facts import ScriptFacts
from preflight.memory import STEP_MOMENTS, Level, Moment
from preflight.models import describe
from preflight.plugins import load_plugins
from preflight.setting import Place
from preflight.unpriced_names import PROMPT_LOGITS
from preflight.versions.boundary import release

ROWS = recorded("older_rollouts.jsonl")
WIDE = {
    **LLAMA, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2, "vocab_size": 32768,
}  # fmt: skip
FROM_TOP = 9
"""Bytes per logit of a last token that is drawn of the likeliest: a mask, and two copies in fp32."""
OF_ROLLOUT = 0.03
"""A temperature other than 1, 0.9 by default to TRL 0.15, makes one more copy of these logits."""


def older_plan(row: dict) -> LaunchPlan:
    case = {"objective": "grpo", "micro": 8, "prompt": 32, "completion": 64, **row["case"]}
    plan = plan_of({**case, "autocast": case["load"] == "fp32"})
    edits: dict = {"versions.trl": row["trl"], "loss": "full_logits"}
    edits["versions.transformers"] = row["transformers"]
    if "num_generations" in case:
        edits["generation.num_generations"] = case["num_generations"]
        edits["reference_model"] = "adapter_off" if case.get("rank") else "same"
    if release(row["trl"]) < release("0.17"):
        edits["generation.steps_per_generation"] = 1
        edits["generation.gradients_wait"] = case.get("accumulation", 1) > 1
    return plan.with_edits(edits)


def predicted_of(plan: LaunchPlan) -> dict[str, int]:
    """Return the most live bytes of every part that the counts have."""
    plugins = plugins_of("memory_")
    model = describe({**WIDE, "dtype": "bfloat16"}, "t", "t")
    terms = estimate_memory(plan, model, None, plugins).terms

    def at(*moments: Moment) -> int:
        alive = [t for t in terms if t.level is Level.ALLOCATED]
        return max(sum(t.num_bytes for t in alive if moment in t.moments) for moment in moments)

    forward = {Moment.FORWARD, Moment.LOSS_FORWARD}
    drawn = (
        FROM_TOP * 8 * WIDE["vocab_size"] if release(plan.versions["trl"]) < release("0.18") else 0
    )
    return {
        "rollout": max(at(Moment.ROLLOUT) + drawn, at(Moment.SCORING)),
        "forward": at(*forward),
        "backward": at(*(set(STEP_MOMENTS) - forward)),
        "optimizer": at(Moment.OPTIMIZER_STEP),
    }


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['trl']}, {row['name']}")
def test_every_part_of_an_older_step_is_priced(row):
    plan = older_plan(row)

    assert not unpriced_objective(plan)
    for part, found in predicted_of(plan).items():
        tolerance = OF_ROLLOUT if part == "rollout" else TOLERANCE
        assert found == pytest.approx(row["peaks"][part], rel=tolerance), part


def test_a_prompt_of_0_14_is_as_many_sequences_as_it_has_completions():
    row = next(row for row in ROWS if row["trl"] == "0.14.0")
    plan = older_plan(row)
    later = plan.with_edits({"versions.trl": "0.15.2"})

    assert num_sequences(plan) == 4 * num_sequences(later) == num_completions(plan)
    assert num_completions(later) == plan.micro_batch_size


def test_a_reference_that_scores_beside_a_graph_is_in_the_loss_alone():
    row = next(row for row in ROWS if row["case"].get("beta") and row["trl"] == "0.18.2")
    inside, ahead = (predicted_of(older_plan({**row, "trl": trl})) for trl in ("0.18.2", "0.17.0"))

    assert inside["forward"] > ahead["forward"]
    assert inside["rollout"] < ahead["rollout"]


@pytest.mark.parametrize(("trl", "engine", "copies"), [
    ("0.18.2", "zero3", True), ("0.18.2", "fsdp2", True), ("0.18.2", "ddp", False), ("0.19.0", "zero3", False),
])  # fmt: skip
def test_an_adapter_has_a_second_copy_beside_it_where_the_trainer_asks_for_zero3_first(
    trl, engine, copies
):
    row = next(row for row in ROWS if row["case"].get("rank"))
    plan = older_plan({**row, "trl": trl}).with_edits(
        {"engine": engine, "world_size": 2, "shard_degree": 1 if engine == "ddp" else 2}
    )
    plugins = plugins_of("memory_")
    model = describe({**WIDE, "dtype": "bfloat16"}, "t", "t")
    names = {term.name for term in estimate_memory(plan, model, None, plugins).terms}

    assert ("parameters of the reference model" in names) is copies


@pytest.mark.parametrize(
    ("edits", "what"),
    [
        ({"versions.trl": "0.17.0", "engine": "fsdp1"}, "under FSDP before TRL 0.18"),
        (
            {
                "versions.trl": "0.14.0",
                "versions.transformers": "4.48.3",
                "reward_models": ("same",),
            },
            "a reward model beside the graph",
        ),
    ],
)
def test_what_an_older_release_does_otherwise_is_named(edits, what):
    row = next(row for row in ROWS if row["trl"] == "0.15.2")

    assert what in unpriced_objective(older_plan(row).with_edits(edits))


@pytest.mark.parametrize(
    ("trl", "transformers", "hands_over", "size"),
    [
        ("0.18.2", "4.51.3", True, 2),
        ("0.19.1", "4.51.3", True, 4),
        ("0.24.0", "4.51.3", True, 4),
        ("0.24.0", "4.51.3", False, 2),
        ("0.24.0", "5.0.0", True, 2),
        ("1.15.0", "5.24.0", True, 4),
        ("1.16.0", "5.24.0", True, 2),
    ],
)
def test_a_reference_of_a_policy_that_was_handed_over_is_loaded_by_name(
    trl, transformers, hands_over, size
):
    """TRL 0.18.2, 0.19.1 and 0.24.0 were asked with a model in 16 bits: their references are bf16, fp32 and fp32."""
    row = next(row for row in ROWS if row["case"] == {"load": "bf16", "beta": 0.04})
    place = Place("script", "", "train.py:3") if hands_over else None
    plan = older_plan({**row, "trl": trl, "transformers": transformers})
    plan = replace(plan, script_facts=ScriptFacts(model_at=place))
    plugins = load_plugins(builtins=["memory_reference"])
    model = describe({**WIDE, "dtype": "bfloat16"}, "t", "t")
    terms = estimate_memory(plan, model, None, plugins).terms

    held = next(t.num_bytes for t in terms if t.name == "parameters of the reference model")
    assert held == size * model.num_params


@pytest.mark.parametrize(
    "edits",
    [
        {"versions.transformers": "4.48.3"},
        {"versions.trl": "0.14.0", "versions.transformers": "4.52.4"},
    ],
)
def test_logits_of_prompts_are_bounded_by_completions_as_long_as_the_rows(edits):
    """`num_logits_to_keep` became `logits_to_keep`, and a model that does not know its argument makes all of them."""
    row = next(row for row in ROWS if row["trl"] == "0.15.2")
    plan = older_plan(row).with_edits({**edits, "load_dtype": "bf16"})
    model = describe(LLAMA, "tiny", "test")
    named = with_left_out(plan, model)
    dearest = dearest_of(named, model, {})

    assert not unpriced_objective(plan)
    assert PROMPT_LOGITS in {notice.unpriced for notice in named.notices}
    assert dearest is not None and dearest.names == {PROMPT_LOGITS}
    assert plan.seq_len is not None
    tokens = plan.seq_len * 4
    assert tokens_with_logits(plan, tokens) < tokens == tokens_with_logits(dearest.plan, tokens)

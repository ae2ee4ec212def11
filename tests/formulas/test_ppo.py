"""TRL's PPO beside the estimate: live bytes of rollout, scoring and update, policy and value model trained together."""

from __future__ import annotations

import pytest
from small_llama import LLAMA, ZERO
from test_rollouts import parts_of

from preflight.formulas.layers.heads import with_head
from preflight.formulas.objectives.ppo import policy_of
from preflight.judge import estimate_memory
from preflight.launch import DeepSpeedSettings, Generation, LaunchPlan
from preflight.memory import STEP_MOMENTS, Moment
from preflight.models import describe
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins

CONFIG = {**LLAMA, "vocab_size": 8192}
LONG = {"micro_batch_size": 8, "prompt": 24, "completion": 104}
TWO = {"gradient_accumulation_steps": 2}
RANKS = {"load_dtype": "fp32", "mixed_precision": "bf16", "max_grad_norm": 0.0}
COUNTED: dict[str, tuple[dict, tuple[int, int, int]]] = {
    "bf16": ({}, (92_553_184, 94_780_992, 129_344_900)),
    "bf16, long completions": (LONG, (169_156_080, 136_917_984, 266_408_288)),
    "bf16, two steps": (TWO, (99_353_548, 103_284_908, 153_946_244)),
    "bf16, two steps, two rows at a time": (
        {**TWO, "rows": 2},
        (98_374_252, 93_695_756, 153_942_308),
    ),
    "fp32": ({"load_dtype": "fp32"}, (178_791_008, 186_404_256, 250_947_468)),
    "fp32 under autocast": (
        {"load_dtype": "fp32", "mixed_precision": "bf16"},
        (178_791_008, 186_404_256, 251_701_644),
    ),
    "DDP, 2 ranks": ({**RANKS, "engine": "ddp"}, (221_664_948, 229_278_196, 294_575_584)),
    "ZeRO-2, 2 ranks": ({**RANKS, "engine": "zero2"}, (113_989_456, 116_217_264, 160_662_388)),
    "ZeRO-3, 2 ranks": ({**RANKS, "engine": "zero3"}, (126_508_437, 111_092_437, 163_300_157)),
}
"""Case -> bytes of rollout, scoring and update, counted by ppo_steps.py on TRL 1.12.0, transformers 5.24.0 (November 2026);
ranks on gloo, with four epochs, as by default: of a single one ZeRO-3 gathers less."""
TOLERANCE = 0.02


def plan_of(case: dict) -> LaunchPlan:
    engine = case.get("engine", "single")
    world = 1 if engine == "single" else 2
    prompt, completion = case.get("prompt", 64), case.get("completion", 16)
    named = {
        name: value for name, value in case.items() if name not in ("prompt", "completion", "rows")
    }
    common = {
        "micro_batch_size": 4, "load_dtype": "bf16", "mixed_precision": "no", "world_size": world,
        "shard_degree": world if engine.startswith("zero") else 1,
        "deepspeed": DeepSpeedSettings(**ZERO) if engine.startswith("zero") else None,
    }  # fmt: skip
    return LaunchPlan(
        objective="ppo", trainer="trl", seq_len=prompt + completion, attention="sdpa", sequence_kind="fixed",
        activation_checkpointing="none", loss="full_logits", reference_model="same", reward_models=("same",),
        versions={"trl": "1.12.0"},
        generation=Generation(max_completion_len=completion, rollout_rows=case.get("rows", 64)),
        **{**common, **named},
    )  # fmt: skip


def predicted_of(plan: LaunchPlan, plugins: PluginManager) -> dict[str, int]:
    model = with_head(plan, describe({**CONFIG, "dtype": "bfloat16"}, "t", "t"))
    return parts_of(estimate_memory(plan, model, None, plugins))


@pytest.mark.parametrize("name", COUNTED)
def test_every_part_of_ppo_is_priced(plugins, name):
    case, counted = COUNTED[name]
    predicted = predicted_of(plan_of(case), plugins)
    wanted = dict(zip(("rollout", "scoring", "update"), counted, strict=True))

    assert predicted == pytest.approx(wanted, rel=TOLERANCE)


def test_what_is_trained_is_the_policy_twice_but_for_its_head():
    plan = plan_of({})
    policy = describe(CONFIG, "t", "t")
    both = with_head(plan, policy)

    assert both.num_params == 2 * policy.num_params - policy.head_params + policy.hidden_size
    assert policy_of(both).num_params == policy.num_params
    assert with_head(plan, both) is both


def test_a_value_model_has_no_second_head_where_embeddings_are_tied():
    policy = describe({**CONFIG, "tie_word_embeddings": True}, "t", "t")

    assert with_head(plan_of({}), policy).num_params == 2 * policy.num_params + policy.hidden_size


@pytest.mark.parametrize("completion", [8, 16, 32])
def test_logits_of_a_rollout_grow_with_completions_and_outlive_it(completion):
    plan = plan_of({"completion": completion})
    plugins = load_plugins(builtins=["memory_rollout"])
    model = with_head(plan, describe(CONFIG, "t", "t"))
    (kept,) = [
        term
        for term in estimate_memory(plan, model, None, plugins).terms
        if term.name == "logits of a rollout"
    ]

    assert kept.num_bytes == 4 * 4 * completion * 8192
    assert {Moment.SCORING, *STEP_MOMENTS} <= kept.moments

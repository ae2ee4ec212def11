"""Whole logits of DPO, KTO, GRPO and RLOO, release by release, beside what was counted in an environment with each."""

from __future__ import annotations

import pytest
from small_llama import LLAMA
from some_plugins import plugins_of

from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.judge import estimate_memory
from preflight.launch import Adapter, Generation, LaunchPlan
from preflight.memory import STEP_MOMENTS, Level, Moment
from preflight.models import describe

NARROW = {**LLAMA, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 2}
TINY = {**NARROW, "vocab_size": 16384}
DEEP = {**LLAMA, "vocab_size": 4096, "num_hidden_layers": 8}
WIDE = {**LLAMA, "vocab_size": 8192}
OLD = "4.52.4"
DPO = {
    ("0.15.2", "bf16", "tiny"): 85_623_284,
    ("0.15.2", "autocast", "tiny"): 220_511_980,
    ("0.28.0", "bf16", "tiny"): 85_753_396,
    ("0.28.0", "autocast", "tiny"): 220_511_660,
    ("0.24.0", "bf16", "deep"): 192_812_428,
    ("0.24.0", "bf16, checkpointed", "deep"): 96_148_876,
    ("0.24.0", "autocast", "deep"): 333_641_476,
    ("0.24.0", "autocast, checkpointed", "deep"): 208_404_228,
    ("1.5.0", "bf16", "tiny"): 138_955_058,
    ("1.5.0", "autocast", "tiny"): 244_641_600,
    ("1.12.0", "bf16", "tiny"): 122_300_786,
    ("1.12.0", "autocast", "tiny"): 219_199_836,
    ("1.12.0", "bf16, LoRA", "wide"): 68_123_472,
    ("1.12.0", "autocast, LoRA", "wide"): 114_740_536,
    ("1.12.0", "bf16, checkpointed", "wide"): 92_877_462,
    ("1.12.0", "bf16, computed", "wide"): 88_222_674,
    ("1.13.0", "bf16", "tiny"): 122_300_786,
}
"""TRL, how the policy trains, and which model -> bytes of a step's peak, counted by objective_steps.py in an environment with
that release (transformers 4.52.4 before 0.29, else 5.24.0; November 2026). 4 rows of 128 tokens, of 256 where deep."""
KTO = {("1.12.0", "bf16"): 122_563_030, ("1.12.0", "autocast"): 219_199_840}
ONLINE = {
    ("0.29.1", "grpo", "bf16"): (27_437_218, 121_335_034),
    ("0.29.1", "rloo", "bf16"): (103_806_338, 130_462_330),
    ("1.0.0", "grpo", "bf16"): (27_437_218, 176_110_086),
    ("1.0.0", "rloo", "bf16"): (87_030_658, 185_237_382),
    ("1.0.0", "rloo", "autocast"): (174_133_652, 364_438_416),
    ("1.13.0", "rloo", "bf16"): (120_585_090, 164_147_834),
    ("1.13.0", "rloo", "autocast"): (207_569_300, 363_918_224),
}
"""TRL, method and dtype -> bytes of scoring and of an update, counted by rollout_steps.py likewise."""
TOLERANCE = 0.02


def plan_of(objective: str, trl: str, how: str, length: int, **more) -> LaunchPlan:
    versions = {"trl": trl, **({"transformers": OLD} if trl < "0.29" else {})}
    wide = how.startswith("autocast")
    return LaunchPlan(
        objective=objective, trainer="trl", versions=versions, load_dtype="fp32" if wide else "bf16",
        mixed_precision="bf16" if wide else "no", seq_len=length, attention="sdpa", sequence_kind="fixed",
        loss="full_logits", activation_checkpointing="full" if "checkpointed" in how else "none",
        adapter=Adapter(rank=8, targets=("q_proj", "v_proj")) if "LoRA" in how else None,
        **{"micro_batch_size": 4, "reference_model": "none" if "computed" in how else None, **more},
    )  # fmt: skip


def predicted_of(plan: LaunchPlan, config: dict, *moments: Moment) -> int:
    plugins = plugins_of("memory_")
    model = describe({**config, "dtype": "bfloat16"}, "t", "t")
    terms = estimate_memory(plan, model, None, plugins).terms
    return max(
        sum(t.num_bytes for t in terms if t.level is Level.ALLOCATED and moment in t.moments)
        for moment in moments
    )


@pytest.mark.parametrize(("trl", "how", "size"), DPO)
def test_dpo_reads_whole_logits_of_policy_and_reference(trl, how, size):
    config = {"tiny": TINY, "deep": DEEP, "wide": WIDE}[size]
    plan = plan_of("dpo", trl, how, 256 if size == "deep" else 128, micro_batch_size=2)

    assert predicted_of(plan, config, *STEP_MOMENTS) == pytest.approx(
        DPO[trl, how, size], rel=TOLERANCE
    )


@pytest.mark.parametrize(("trl", "how"), KTO)
def test_kto_reads_whole_logits_of_policy_and_reference(trl, how):
    plan = plan_of("kto", trl, how, 128)

    assert predicted_of(plan, TINY, *STEP_MOMENTS) == pytest.approx(KTO[trl, how], rel=TOLERANCE)


@pytest.mark.parametrize(("trl", "objective", "how"), ONLINE)
def test_logits_of_completions_are_divided_copied_and_scored_row_by_row(trl, objective, how):
    plan = plan_of(
        objective, trl, how, 288, reference_model="same" if objective == "rloo" else "none",
        generation=Generation(max_completion_len=256, scores_again=objective == "rloo"),
    )  # fmt: skip
    scoring, update = ONLINE[trl, objective, how]

    assert predicted_of(plan, TINY, Moment.SCORING) == pytest.approx(scoring, rel=TOLERANCE)
    assert predicted_of(plan, TINY, *STEP_MOMENTS) == pytest.approx(update, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("objective", "trl", "is_priced"),
    [
        ("dpo", "0.8.6", True), ("dpo", "0.14.0", True), ("dpo", "1.13.0", True), ("dpo", "1.14.0", True),
        ("kto", "1.7.0", False), ("kto", "1.8.0", True), ("kto", "1.14.0", False), ("kto", "1.15.0", True),
        ("rloo", "0.21.0", False), ("rloo", "0.22.0", True), ("rloo", "1.14.0", False),
        ("grpo", "0.15.0", True), ("grpo", "1.14.0", False), ("grpo", "0.18.0", True),
    ],
)  # fmt: skip
def test_a_release_is_priced_where_its_log_probabilities_were_read(objective, trl, is_priced):
    plan = plan_of(objective, trl, "bf16", 128, generation=Generation())

    assert (not unpriced_objective(plan)) is is_priced

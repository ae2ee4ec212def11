"""Liger's losses of answers: TRL's own trainers with them, not compiled, whose steps were counted once, beside the estimate.

Counted with liger-kernel 0.7.0 by the trackers of rollout_steps.py (GRPO of TRL 0.18.2) and older_steps.py (DPO), with
transformers 4.52.4 and 5.24.0, November 2026.
"""

from __future__ import annotations

import pytest
from older_steps import CASES, CONFIG
from test_objectives import TOLERANCE, predicted
from test_older_objectives import OLDER_LAYERS
from test_older_objectives import plan_of as pairs_of
from test_rollouts import most_of_a_step, plan_of

import preflight
from preflight.formulas.limits.doubts import COMPILED_CHUNKS
from preflight.formulas.limits.left_out_of_answers import left_out_of_answers

COMPLETIONS = {
    ("bf16", 0, 4): 105_958_854,
    ("bf16", 8, 4): 84_836_756,
    ("bf16", 0, 8): 121_649_110,
}
"""Dtype, rank of an adapter and micro batch -> bytes of GRPO's largest moment."""
PAIRS = {
    ("16 bits", "1.0.0"): 161_574_992,
    ("checkpointed", "1.0.0"): 128_473_168,
    ("one pair", "1.0.0"): 229_023_328,
    ("16 bits", "1.9.0"): 161_566_832,
    ("LoRA", "0.19.1"): 121_371_658,
}
"""Case of older_steps.py, in 16 bits without autocast, and TRL -> bytes of DPO's."""


@pytest.mark.parametrize(("load", "rank", "micro"), COMPLETIONS)
def test_completions_are_priced_one_at_a_time(load, rank, micro):
    case = {"objective": "grpo", "micro": micro, "prompt": 32, "completion": 256, "load": load}
    case |= {"rank": rank} if rank else {}
    plan = plan_of(case).with_edits({"versions.trl": "0.18.2", "loss": "fused_linear"})

    assert most_of_a_step(plan) == pytest.approx(COMPLETIONS[load, rank, micro], rel=TOLERANCE)


@pytest.mark.parametrize(("name", "trl"), PAIRS)
def test_pairs_are_priced_one_at_a_time(name, trl):
    length, is_newer = CASES[name].get("length", 256), trl >= "1.0"
    row = {"trl": trl, "objective": "dpo", "name": name, "shape": [4, length]}
    row["transformers"] = "5.24.0" if is_newer else "4.52.4"
    edits = {"loss": "fused_linear", "load_dtype": "bf16", "mixed_precision": "no"}
    plan = pairs_of(row).with_edits(edits)

    assert max(predicted(plan, CONFIG).values()) == pytest.approx(
        PAIRS[name, trl], rel=TOLERANCE if is_newer else OLDER_LAYERS
    )


def test_a_reference_with_a_graph_is_named():
    row = {
        "trl": "0.28.0",
        "transformers": "4.57.6",
        "objective": "dpo",
        "name": "16 bits",
        "shape": [4, 256],
    }
    older = pairs_of(row).with_edits({"loss": "fused_linear"})
    newer = older.with_edits({"versions.trl": "0.29.0"})

    assert "a reference model with a graph" in {one.unpriced for one in left_out_of_answers(older)}
    assert not any(one.takes == "more" for one in left_out_of_answers(newer))


@pytest.mark.parametrize(
    ("command", "trl"),
    [
        ("trl grpo --use_liger_loss true --max_prompt_length 512", "0.24.0"),
        ("trl dpo --use_liger_kernel true --max_length 2048", "1.9.0"),
    ],
)
def test_a_launch_with_it_fits_and_is_refused_for_no_logits_of_it(tmp_path, command, trl):
    words = f"{command} --model_name_or_path Qwen/Qwen2.5-7B --dataset_name a --dtype bfloat16 --num_processes 8"
    plan = {"versions.trl": trl, "engine": "zero3", "shard_degree": 8, "world_size": 8}
    report = preflight.check(words.split(), device="h100-sxm-80", settings=plan, cwd=str(tmp_path))

    assert report.plan.loss == "fused_linear"
    assert report.verdict.answer.value == "fits"
    assert COMPILED_CHUNKS in {notice.unpriced for notice in report.plan.notices}

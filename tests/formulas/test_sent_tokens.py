"""Rows that other ranks send to a rank's experts: what ranks kept of them, within the most that is counted; sent_tokens.py makes the rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import recorded

from preflight.errors import Problem
from preflight.formulas.sent_tokens import row_bytes, rows_from_others, sent_at_most
from preflight.launch import LaunchPlan
from preflight.memory import Moment
from preflight.models import describe
from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.unpriced_names import SENT_TOKENS

ROWS = recorded("sent_tokens.jsonl")
BF16 = 2


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}, {row['ranks']} ranks")
def test_rows_from_other_ranks_take_no_more(row):
    rows = rows_from_others(row["tokens"], row["top_k"], row["experts"], row["ranks"])
    each = row_bytes(row["hidden"], row["inner"], BF16)
    more = {part: row["all"][part] - row["even"][part] for part in row["all"]}

    assert more["kept"] <= rows * each.kept <= 1.02 * max(more["kept"], 1)
    for part in ("forward", "backward"):
        assert more[part] <= rows * (each.kept + each.passing)


MODEL = describe(
    {
        "model_type": "qwen3_moe", "hidden_size": 256, "intermediate_size": 512, "moe_intermediate_size": 128,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 32, "num_experts": 16, "num_experts_per_tok": 4,
        "num_hidden_layers": 3, "vocab_size": 2048, "decoder_sparse_step": 1, "mlp_only_layers": [],
    },
    "small", "here",
)  # fmt: skip
PLAN = LaunchPlan(
    trainer="torchtitan", engine="fsdp2", world_size=16, shard_degree=16, micro_batch_size=2, seq_len=512,
    mixed_precision="bf16", activation_checkpointing="none", expandable_segments=True,
)  # fmt: skip


def most(plan):
    terms = sent_at_most(plan, MODEL)
    return max(sum(t.num_bytes for t in terms if m in t.moments) for m in Moment)


def test_more_ranks_may_send_more_until_each_has_fewer_experts_than_a_token_goes_to():
    found = [most(PLAN.with_edits({"expert_parallel_degree": n})) for n in (1, 2, 4, 8, 16)]

    assert found[0] == 0 < found[1] < found[2]
    assert found[2] == found[3] == found[4]  # 4 x 4, 8 x 2 and 16 x 1 experts of every token


def test_checkpoints_keep_less_of_them():
    shared = PLAN.with_edits({"expert_parallel_degree": 4})
    modes = ("full", "selective_op", "none")
    kept = [sum(t.num_bytes for t in sent_at_most(shared.with_edits({"activation_checkpointing": mode}), MODEL) if Moment.LOSS_FORWARD in t.moments) for mode in modes]  # fmt: skip

    assert kept == sorted(kept) and kept[0] == 0


def test_blocks_of_several_sizes_are_counted_twice_where_segments_do_not_grow():
    shared = PLAN.with_edits({"expert_parallel_degree": 4})

    assert most(shared.with_edits({"expandable_segments": False})) == 2 * most(shared)


@pytest.mark.parametrize(
    ("device", "answer"),
    [
        ("big:30", "does_not_fit"),  # weights, gradients and states, whatever comes to the experts
        ("big:80", "unknown"),
        ("big:800", "fits"),  # all tokens at once
    ],
)
def test_the_answer_turns_on_tokens_only_in_between(device, answer):
    sent = Problem("experts are shared", "here", "", "PF143", "warning", SENT_TOKENS, "either")
    plan = replace(
        PLAN, model="Qwen/Qwen3-30B-A3B", expert_parallel_degree=8, micro_batch_size=4, seq_len=4096, load_dtype="fp32",
        activation_checkpointing="selective_op", optimizer="adamw_torch_fused", device=device, notices=(sent,),
        loss="chunked_linear", sequence_kind="fixed", attention="sdpa", objective="pretrain",
    )  # fmt: skip
    verdict = check_plan(plan, load_plugins(), Request()).verdict

    assert verdict is not None and verdict.answer.value == answer
    assert verdict.unpriced == ((SENT_TOKENS,) if answer == "unknown" else ())

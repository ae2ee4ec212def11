"""Encoders under every head, on Trainer: live bytes of a step beside the estimate.

DeBERTa's and MPNet's scores have another dtype under a CPU's autocast than under a GPU's; DeBERTa's trace is in tests/models.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from step_script import counted_of
from test_objectives import predicted

from preflight.launch import Adapter, LaunchPlan

SCRIPT = Path(__file__).with_name("encoder_steps.py")
TOLERANCE = 0.02
SIZES = {
    "hidden_size": 320, "num_hidden_layers": 3, "num_attention_heads": 5, "intermediate_size": 1280, "vocab_size": 2048,
    "max_position_embeddings": 514, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = {
    "bert": {**SIZES, "model_type": "bert"},
    "bert, decoder": {**SIZES, "model_type": "bert", "is_decoder": True},
    "megatron-bert": {**SIZES, "model_type": "megatron-bert", "is_decoder": True, "attention_probs_dropout_prob": 0.1},
    "roformer": {
        **SIZES, "model_type": "roformer", "is_decoder": True, "embedding_size": 320,
        "attention_probs_dropout_prob": 0.1,
    },
    "bert, eager": {**SIZES, "model_type": "bert", "attention_probs_dropout_prob": 0.1},
    "roberta": {**SIZES, "model_type": "roberta", "pad_token_id": 1},
    "xlm-roberta": {**SIZES, "model_type": "xlm-roberta", "pad_token_id": 1},
    "camembert": {**SIZES, "model_type": "camembert", "pad_token_id": 1},
    "mpnet": {**SIZES, "model_type": "mpnet", "pad_token_id": 1, "attention_probs_dropout_prob": 0.1},
    "electra": {**SIZES, "model_type": "electra", "embedding_size": 320},
    "ernie": {**SIZES, "model_type": "ernie"},
    "distilbert": {
        "model_type": "distilbert", "dim": 320, "n_layers": 3, "n_heads": 5, "hidden_dim": 1280, "vocab_size": 2048,
        "max_position_embeddings": 514, "attention_dropout": 0.0, "pad_token_id": 0,
    },
    "deberta-v2": {
        **SIZES, "model_type": "deberta-v2", "relative_attention": True, "position_buckets": 64, "share_att_key": True,
        "norm_rel_ebd": "layer_norm", "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
        "attention_probs_dropout_prob": 0.1, "type_vocab_size": 0, "pooler_hidden_size": 320,
    },
}  # fmt: skip
HEADS = ("masked_lm", "sequence_classification", "token_classification", "embedding")
CASES: dict[str, dict] = {
    **{f"bert, {head}": {"type": "bert", "head": head} for head in HEADS},
    **{f"bert, {head}, autocast": {"type": "bert", "head": head, "autocast": True} for head in HEADS},
    "bert, checkpointed": {"type": "bert", "head": "sequence_classification", "checkpointing": True},
    "bert, padded": {"type": "bert", "head": "sequence_classification", "padded": True},
    "bert, eager": {"type": "bert, eager", "head": "sequence_classification", "attention": "eager"},
    "roberta": {"type": "roberta", "head": "sequence_classification"},
    "roberta, masked_lm, autocast": {"type": "roberta", "head": "masked_lm", "autocast": True},
    "roberta, LoRA": {"type": "roberta", "head": "sequence_classification", "rank": 8},
    "bert, LoRA": {"type": "bert", "head": "sequence_classification", "rank": 8},
    "roberta, LoRA, checkpointed": {
        "type": "roberta", "head": "token_classification", "rank": 8, "checkpointing": True,
    },
    "roberta, LoRA, masked_lm, autocast": {
        "type": "roberta", "head": "masked_lm", "rank": 8, "autocast": True,
    },
    "xlm-roberta": {"type": "xlm-roberta", "head": "token_classification"},
    "camembert": {"type": "camembert", "head": "token_classification"},
    "mpnet": {"type": "mpnet", "head": "embedding", "attention": "eager"},
    "mpnet, masked_lm": {"type": "mpnet", "head": "masked_lm", "attention": "eager"},
    "electra": {"type": "electra", "head": "sequence_classification", "checkpointing": True},
    "ernie, masked_lm": {"type": "ernie", "head": "masked_lm", "autocast": True},
    "distilbert": {"type": "distilbert", "head": "sequence_classification"},
    "distilbert, masked_lm": {"type": "distilbert", "head": "masked_lm"},
    "bert, causal_lm": {"type": "bert, decoder", "head": "causal_lm"},
    "bert, causal_lm, autocast": {"type": "bert, decoder", "head": "causal_lm", "autocast": True},
    "bert, causal_lm, both directions": {"type": "bert", "head": "causal_lm"},
    "roberta, causal_lm, LoRA": {"type": "roberta", "head": "causal_lm", "rank": 8},
    "megatron-bert, causal_lm": {"type": "megatron-bert", "head": "causal_lm", "attention": "eager", "checkpointing": True},
    "roformer, causal_lm": {"type": "roformer", "head": "causal_lm", "attention": "eager"},
    "deberta-v2": {"type": "deberta-v2", "head": "sequence_classification", "attention": "eager"},
    "deberta-v2, checkpointed": {
        "type": "deberta-v2", "head": "token_classification", "attention": "eager", "checkpointing": True,
    },
}  # fmt: skip


def case_of(name: str) -> dict:
    case = {"micro": 4, "length": 256, "attention": "sdpa", **CASES[name]}
    return {**case, "config": CONFIGS[case["type"]]}


@pytest.fixture(scope="module")
def measured(ranks, tmp_path_factory) -> dict[str, dict]:
    """One process takes two steps of every case."""
    folder = tmp_path_factory.mktemp("encoders")
    return counted_of(ranks, SCRIPT, {name: case_of(name) for name in CASES}, folder)


def plan_of(case: dict) -> LaunchPlan:
    return LaunchPlan(
        objective="pretrain" if case["head"] == "causal_lm" else case["head"],
        trainer="transformers",
        load_dtype="fp32",
        mixed_precision="bf16" if case.get("autocast") else "no",
        micro_batch_size=case["micro"],
        seq_len=case["length"],
        attention=case["attention"],
        sequence_kind="padded" if case.get("padded") else "fixed",
        activation_checkpointing="full" if case.get("checkpointing") else "none",
        adapter=Adapter(rank=case["rank"], targets=("query", "key", "value", "dense"))
        if "rank" in case
        else None,
    )


@pytest.mark.parametrize("name", CASES)
def test_the_worst_moment_of_a_step_is_priced(measured, name):
    case = case_of(name)
    counted = max(measured[name]["peaks"].values())

    assert max(predicted(plan_of(case), case["config"]).values()) == pytest.approx(
        counted, rel=TOLERANCE
    )

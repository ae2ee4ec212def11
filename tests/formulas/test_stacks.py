"""Encoders with a decoder on Seq2SeqTrainer: live bytes of a step beside the estimate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from some_plugins import plugins_of
from step_script import counted_of
from test_objectives import predicted

from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan, TrainerFacts
from preflight.memory import Level, Moment
from preflight.models import describe
from preflight.setting import Place, Setting

SCRIPT = Path(__file__).with_name("stack_steps.py")
TOLERANCE = 0.02
"""Whisper in fp32 keeps each attention's output twice on a CPU, whose kernel lays it out like its queries: 2.8 % more."""
SIZES = {
    "d_model": 320, "d_kv": 64, "d_ff": 832, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 5, "vocab_size": 2048,
    "pad_token_id": 0, "decoder_start_token_id": 0,
}  # fmt: skip
GATED = {**SIZES, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
CONFIGS = {
    "t5": {**SIZES, "model_type": "t5", "feed_forward_proj": "relu"},
    "flan-t5": {**GATED, "model_type": "t5"},
    "mt5": {**GATED, "model_type": "mt5"},
}
CONFIGS["whisper"] = {
    "model_type": "whisper", "d_model": 320, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 5,
    "decoder_attention_heads": 5, "encoder_ffn_dim": 832, "decoder_ffn_dim": 832, "vocab_size": 2048, "num_mel_bins": 80,
    "max_source_positions": 192, "max_target_positions": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 2,
}  # fmt: skip
BART = {
    "d_model": 320, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 5, "decoder_attention_heads": 5,
    "encoder_ffn_dim": 832, "decoder_ffn_dim": 832, "vocab_size": 2048, "max_position_embeddings": 256, "pad_token_id": 0,
    "decoder_start_token_id": 0,
}  # fmt: skip
CONFIGS |= {
    "bart": {**BART, "model_type": "bart"},
    "bart, active": {**BART, "model_type": "bart", "activation_dropout": 0.1},
    "mbart": {**BART, "model_type": "mbart"},
    "pegasus": {**BART, "model_type": "pegasus", "activation_function": "relu", "activation_dropout": 0.1},
}  # fmt: skip
CASES: dict[str, dict] = {
    "bart, autocast": {"type": "bart", "autocast": True},
    "bart, drops what it activates": {"type": "bart, active"},
    "mbart, checkpointed": {"type": "mbart", "checkpointing": True},
    "pegasus, 16 bits": {"type": "pegasus", "load": "bf16"},
    "t5": {"type": "t5"},
    "t5, autocast": {"type": "t5", "autocast": True},
    "t5, long answers": {"type": "t5", "length": 64, "answer": 256},
    "flan-t5": {"type": "flan-t5"},
    "flan-t5, autocast": {"type": "flan-t5", "autocast": True},
    "flan-t5, 16 bits": {"type": "flan-t5", "load": "bf16"},
    "flan-t5, checkpointed": {"type": "flan-t5", "checkpointing": True},
    "flan-t5, autocast, checkpointed": {"type": "flan-t5", "autocast": True, "checkpointing": True},
    "flan-t5, LoRA": {"type": "flan-t5", "rank": 8, "targets": ["q", "v"]},
    "flan-t5, LoRA with dropout, autocast": {
        "type": "flan-t5", "rank": 8, "targets": ["q", "v"], "dropout": 0.1, "autocast": True,
    },
    "mt5": {"type": "mt5", "autocast": True},
    "whisper, autocast": {"type": "whisper", "autocast": True},
    "whisper, checkpointed": {"type": "whisper", "checkpointing": True},
    "whisper, LoRA": {"type": "whisper", "rank": 8, "targets": ["q_proj", "v_proj"]},
    "flan-t5, one beam": {"type": "flan-t5", "beams": 1, "length": 640, "answer": 16},
    "flan-t5, eight beams": {"type": "flan-t5", "beams": 8},
    "flan-t5, eight beams, autocast": {"type": "flan-t5", "beams": 8, "autocast": True},
}  # fmt: skip


def case_of(name: str) -> dict:
    attention = "eager" if "t5" in CASES[name]["type"] else "sdpa"
    case = {"micro": 4, "length": 192, "answer": 64, "attention": attention, **CASES[name]}
    return {**case, "config": CONFIGS[case["type"]]}


@pytest.fixture(scope="module")
def measured(ranks, tmp_path_factory) -> dict[str, dict]:
    """One process takes two steps of every case."""
    folder = tmp_path_factory.mktemp("stacks")
    return counted_of(ranks, SCRIPT, {name: case_of(name) for name in CASES}, folder)


def plan_of(case: dict) -> LaunchPlan:
    return LaunchPlan(
        trainer="transformers",
        load_dtype=case.get("load", "fp32"),
        mixed_precision="bf16" if case.get("autocast") else "no",
        micro_batch_size=case["micro"],
        seq_len=case["length"],
        target_len=case["answer"],
        attention=case["attention"],
        sequence_kind="padded",
        activation_checkpointing="full" if case.get("checkpointing") else "none",
        adapter=Adapter(rank=case["rank"], targets=tuple(case["targets"]), dropout=case.get("dropout", 0.0))
        if "rank" in case
        else None,
    )  # fmt: skip


@pytest.mark.parametrize("name", [name for name in CASES if "beam" in name])
def test_an_evaluation_that_generates_takes_no_more_than_is_priced(measured, name):
    """Its peak is below that of training nearly always: a bound is enough."""
    case = case_of(name)
    given = {"predict_with_generate": True, "generation_num_beams": case["beams"]}
    arguments = {key: Setting(value, Place("argv", "", key)) for key, value in given.items()}
    plan = replace(
        plan_of(case), eval_micro_batch_size=8, trainer_facts=TrainerFacts(None, arguments)
    )
    plugins = plugins_of("memory_")
    terms = estimate_memory(plan, describe(case["config"], "tiny", "test"), None, plugins).terms
    bound = sum(
        t.num_bytes for t in terms if t.level is Level.ALLOCATED and Moment.EVALUATION in t.moments
    )

    assert 0.98 <= bound / measured[name]["peaks"]["evaluation"] <= 1.3


@pytest.mark.parametrize("name", [name for name in CASES if "beam" not in name])
def test_the_worst_moment_of_a_step_is_priced(measured, name):
    case = case_of(name)
    counted = max(measured[name]["peaks"].values())

    assert max(predicted(plan_of(case), case["config"]).values()) == pytest.approx(
        counted, rel=TOLERANCE
    )

"""Encoders with a decoder: every parameter by its name, counts that are published, and what is not priced and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig

from preflight.builtin_hooks import BUILTIN_HOOKS
from preflight.derive.costs.formula_table import compare
from preflight.judge import judge_plan
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.models import describe
from preflight.models.families.bart_like import KINDS
from preflight.models.registry import find_model
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.trace.stacks import auto_class_of_stacks, untie
from preflight.verdict import Answer

SIZES = {
    "d_model": 48,
    "d_kv": 12,
    "d_ff": 80,
    "num_heads": 5,
    "vocab_size": 96,
    "relative_attention_num_buckets": 8,
}
BART = {
    "d_model": 48, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 80, "decoder_ffn_dim": 88, "vocab_size": 96, "max_position_embeddings": 30, "pad_token_id": 0,
}  # fmt: skip
CONFIGS = [
    {"model_type": "t5", **SIZES, "num_layers": 3},
    {"model_type": "t5", **SIZES, "num_layers": 2, "num_decoder_layers": 1, "feed_forward_proj": "gated-gelu"},
    {"model_type": "mt5", **SIZES, "num_layers": 1, "num_decoder_layers": 4, "tie_word_embeddings": False},
    {"model_type": "umt5", **SIZES, "num_layers": 3, "num_decoder_layers": 2, "tie_word_embeddings": False},
    {"model_type": "whisper", "d_model": 48, "encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4,
     "decoder_attention_heads": 6, "encoder_ffn_dim": 80, "decoder_ffn_dim": 88, "vocab_size": 96, "num_mel_bins": 20,
     "max_source_positions": 30, "max_target_positions": 28, "pad_token_id": 0},
    *({"model_type": name, **BART} for name in KINDS),
]  # fmt: skip


def shapes_of(spec) -> dict[str, tuple[int, ...]]:
    """Return every parameter of a layout by the name that the model gives it."""
    begins: dict[str, int] = {}
    found = {}
    for unit in spec.units:
        prefixes = [unit.name]
        if unit.layer is not None:
            path = unit.name.rpartition(".")[0]
            begin = begins.setdefault(path, unit.places[0])
            prefixes = [f"{path}.{place - begin}" for place in unit.places]
        found |= {f"{prefix}.{t.name}": t.shape for prefix in prefixes for t in unit.tensors}
    return found  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["model_type"])
def test_every_parameter_has_the_name_and_shape_that_transformers_gives_it(config):
    with torch.device("meta"):
        settings = AutoConfig.for_model(**config)
        model = auto_class_of_stacks(settings).from_config(settings)
    if config.get("tie_word_embeddings") is False:
        untie(model)
    spec = describe(config, "tiny", "test")

    named = dict(model.named_parameters())

    assert shapes_of(spec) == {name: tuple(p.shape) for name, p in named.items()}
    assert spec.num_params == model.num_parameters()
    assert not [
        parameter
        for unit in spec.units
        for tensor in unit.tensors
        if (parameter := named.get(f"{unit.name}.{tensor.name}")) is not None
        and parameter.requires_grad != tensor.gets_gradient
    ]
    assert spec.layer_classes == tuple(sorted(model._no_split_modules))


@pytest.mark.parametrize(
    ("name", "millions"),
    [("google/flan-t5-small", 77.0), ("google/flan-t5-xl", 2849.8), ("google/mt5-base", 582.4), ("google-t5/t5-3b", 2851.6)],
)  # fmt: skip
def test_a_checkpoint_with_a_head_of_its_own_is_counted_with_it(name, millions):
    entry = find_model(name)

    assert describe(entry.config, name, "").num_params / 1e6 == pytest.approx(millions, abs=0.06)


PLUGINS = load_plugins(builtins=BUILTIN_HOOKS)
PLAN = LaunchPlan(
    model="google/flan-t5-base", micro_batch_size=1, seq_len=256, target_len=64, trainer="transformers",
    load_dtype="fp32", device="a100-sxm-80", sequence_kind="padded",
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({}, Answer.FITS),
        ({"target_len": None}, Answer.UNKNOWN),
        ({"sequence_kind": "packed"}, Answer.UNKNOWN),
        ({"load_dtype": "fp16"}, Answer.UNKNOWN),
        ({"attention": "flash_attention_2"}, Answer.UNKNOWN),
        ({"loss": "fused_linear"}, Answer.UNKNOWN),
        ({"objective": "sequence_classification"}, Answer.UNKNOWN),
        ({"base_quantization": BaseQuantization("int8")}, Answer.UNKNOWN),
        ({"model": "google/umt5-small", "model_config": {"model_type": "umt5"}}, Answer.UNKNOWN),
        ({"model": "facebook/bart-large"}, Answer.FITS),
        ({"model": "facebook/bart-large", "adapter": Adapter()}, Answer.UNKNOWN),
    ],
)
def test_what_was_never_traced_is_unknown(changes, answer):
    judged = judge_plan(replace(PLAN, **changes), PLUGINS, Policy())

    assert judged.verdict.answer is answer


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("lengths", [(256, 128), (96, 256)])
def test_the_worst_moment_is_that_of_a_trace_in_sizes_that_nothing_was_solved_from(
    checkpointing, lengths
):
    found = compare(
        "t5", "full, autocast", checkpointing, PLUGINS, seq_len=lengths[0], target_len=lengths[1]
    )
    worst = max(found, key=lambda one: one.traced_bytes)

    assert worst.formula_bytes == pytest.approx(worst.traced_bytes, rel=0.01)

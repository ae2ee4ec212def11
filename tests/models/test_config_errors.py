"""Configs that no model can have: every problem at once, with its line; and what a config leaves out."""

from __future__ import annotations

import json

import pytest
from tiny_llama import TINY_LLAMA

from preflight.errors import BadInput
from preflight.models import describe


def problems(config, source="config.json"):
    with pytest.raises(BadInput) as caught:
        describe(config, "mine", source)
    return caught.value.problems


def test_every_impossible_size_of_a_file_is_told_at_once_with_its_line(tmp_path):
    path = tmp_path / "config.json"
    broken = {
        **TINY_LLAMA,
        "hidden_size": "64",
        "num_hidden_layers": 0,
        "tie_word_embeddings": "yes",
    }
    path.write_text(json.dumps(broken, indent=2))
    found = problems(broken, str(path))

    assert {problem.message for problem in found} >= {
        "hidden_size must be a whole number from 1, not '64'",
        "num_hidden_layers must be a whole number from 1, not 0",
        "tie_word_embeddings must be true or false, not 'yes'",
    }
    assert [p.where for p in found if p.message.startswith("hidden_size must")] == [f"{path}:3"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"num_attention_heads": 5}, "hidden_size 64 is not a multiple of num_attention_heads 5"),
        ({"num_key_value_heads": 3}, "num_attention_heads 4 is not a multiple"),
        ({"hidden_size": True}, "hidden_size must be a whole number from 1, not True"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"model_type": None}, "has no model_type"),
        ({"model_type": "lama"}, "model_type 'lama' are not known here"),
        ({"layer_types": ["full_attention"], "model_type": "qwen3"}, "names 1 layers"),
        ({"layer_types": 7, "model_type": "qwen3"}, "must be a list of names"),
        ({"layer_types": [], "model_type": "bert"}, "layer_types names 0 layers"),
        ({"model_type": "gemma3", "text_config": 3}, "text_config must be a mapping"),
        ({"model_type": "longcat_flash"}, "are not known here"),
    ],
)
def test_an_impossible_value_is_named(edit, message):
    assert any(message in problem.message for problem in problems({**TINY_LLAMA, **edit}))


def test_an_unknown_family_says_what_to_give():
    (problem,) = problems({**TINY_LLAMA, "model_type": "lama"})

    assert "did you mean llama" in problem.fix
    assert "--set model_config=FILE" in problem.fix


@pytest.mark.parametrize("named", [1, "LlamaForCausalLM", [], [None], {}])
def test_architectures_may_be_anything(named):
    assert describe({**TINY_LLAMA, "architectures": named}, "mine", "x").is_decoder_lm


def test_what_a_config_leaves_out_is_the_librarys_and_is_named():
    spec = describe({"model_type": "llama", "hidden_size": 2048}, "mine", "x")

    assert spec.vocab_size == 32000
    assert spec.facts["library_defaults"] == (
        "intermediate_size",
        "vocab_size",
        "num_attention_heads",
        "num_hidden_layers",
    )


def test_dropouts_are_the_active_ones_of_the_family():
    gpt2 = describe({"model_type": "gpt2"}, "gpt2", "x")
    llama = describe({**TINY_LLAMA, "attention_dropout": 0.1, "hidden_dropout": 0.2}, "mine", "x")
    neox = describe({"model_type": "gpt_neox", "hidden_dropout": 0.1}, "neox", "x")

    assert gpt2.dropouts == {"attn_pdrop": 0.1, "embd_pdrop": 0.1, "resid_pdrop": 0.1}
    assert llama.dropouts == {"attention_dropout": 0.1}  # LlamaConfig has no hidden_dropout
    assert neox.dropouts == {"hidden_dropout": 0.1}


@pytest.mark.parametrize(
    ("edit", "dtype"),
    [
        ({"torch_dtype": "bfloat16"}, "bf16"),
        ({"dtype": "float16", "torch_dtype": "float32"}, "fp16"),
        ({}, None),
        ({"dtype": "auto"}, None),
    ],
)
def test_the_dtype_is_the_configs_own(edit, dtype):
    assert describe({**TINY_LLAMA, **edit}, "mine", "x").config_dtype == dtype


def test_a_decoder_without_a_layout_makes_no_claim_about_activations():
    config = {"model_type": "longcat_flash", "hidden_size": 64, "vocab_size": 96}
    spec = describe(config, "mine", "x", num_params=1234)

    assert not spec.is_decoder_lm
    assert not spec.layers
    assert spec.num_params == 1234
    assert spec.facts["layout"] == "none"


def test_older_qwen_vl_files_keep_the_decoder_at_the_top():
    config = {
        **TINY_LLAMA,
        "model_type": "qwen2_5_vl",
        "vision_config": {"hidden_size": 32, "depth": 1},
    }
    spec = describe(config, "mine", "x")

    assert spec.model_type == "qwen2_5_vl_text"
    assert spec.num_layers == 2


def test_a_tower_of_another_kind_needs_a_count():
    text = dict(TINY_LLAMA)
    config = {
        "model_type": "llava",
        "text_config": text,
        "vision_config": {"model_type": "sam_vision_model"},
    }
    (problem,) = problems(config)

    assert "vision tower of mine cannot be counted" in problem.message
    assert describe(config, "mine", "x", num_params=10**6).num_params == 10**6

"""Every laid-out family against transformers: tiny models on the meta device, every parameter by name, shape and kind."""

from __future__ import annotations

import functools
import os
import re

import pytest

from preflight.models import describe
from preflight.models.families.groups import BOTH_STACKS, GROUPS

SMALL = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 96}
WIDE = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 96, "n_positions": 32}
MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
LOCAL_MOE = {"num_local_experts": 8, "num_experts_per_tok": 2}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
}
LATENT = {
    **SMALL,
    "intermediate_size": 48,
    "num_key_value_heads": 4,
    "moe_intermediate_size": 24,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 2,
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_group": 2,
    "topk_group": 1,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
}

SIGLIP = {**VISION, "patch_size": 14, "model_type": "siglip_vision_model"}

CASES = [
    ("llama", WIDE),
    ("llama", {**WIDE, "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    ("llama", {**WIDE, "head_dim": 24}),
    ("llama", {**SMALL, "intermediate_size": 48}),
    ("mistral", WIDE),
    ("ministral", {**WIDE, "head_dim": 16}),
    ("ministral3", WIDE),
    ("granite", WIDE),
    ("qwen3_next", {**WIDE, **DELTA, **MOE, "shared_expert_intermediate_size": 20}),
    ("qwen3_next", {**WIDE, **DELTA, **MOE, "mlp_only_layers": [1], "full_attention_interval": 2}),
    ("smollm3", {**WIDE, "pad_token_id": 0}),
    ("qwen2", WIDE),
    ("qwen2", {**WIDE, "use_sliding_window": True, "max_window_layers": 2}),
    ("qwen3", WIDE),
    ("qwen3", {**WIDE, "attention_bias": True, "head_dim": 8}),
    ("gemma", {**WIDE, "head_dim": 16}),
    ("gemma2", WIDE),
    ("gemma3_text", {**WIDE, "num_hidden_layers": 7}),
    ("olmo", WIDE),
    ("olmo2", WIDE),
    ("olmo3", WIDE),
    ("cohere", {**WIDE, "use_qk_norm": True}),
    ("cohere", WIDE),
    ("cohere2", WIDE),
    ("stablelm", {**WIDE, "qk_layernorm": True, "use_qkv_bias": True}),
    ("stablelm", {**WIDE, "use_parallel_residual": True}),
    ("phi", WIDE),
    ("phi", {**WIDE, "qk_layernorm": True}),
    ("phi3", {**WIDE, "pad_token_id": 0}),
    ("glm", {**WIDE, "pad_token_id": 0, "head_dim": 16}),
    ("glm4", {**WIDE, "pad_token_id": 0, "head_dim": 16}),
    ("starcoder2", WIDE),
    ("starcoder2", {**WIDE, "use_bias": False, "tie_word_embeddings": False}),
    ("gpt2", GPT),
    ("gpt2", {**GPT, "n_inner": 40}),
    ("gpt_bigcode", GPT),
    ("gpt_bigcode", {**GPT, "multi_query": False}),
    ("gptj", {**GPT, "rotary_dim": 8}),
    ("gptj", {**GPT, "rotary_dim": 8, "tie_word_embeddings": True}),
    ("gpt_neox", {**SMALL, "intermediate_size": 48}),
    ("gpt_neox", {**SMALL, "intermediate_size": 48, "attention_bias": False}),
    ("falcon", SMALL),
    ("falcon", {**SMALL, "multi_query": False, "bias": True, "parallel_attn": False}),
    ("falcon", {**SMALL, "new_decoder_architecture": True, "num_kv_heads": 2}),
    ("opt", {**SMALL, "ffn_dim": 48, "max_position_embeddings": 32}),
    (
        "opt",
        {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "do_layer_norm_before": False},
    ),
    ("opt", {**SMALL, "ffn_dim": 48, "enable_bias": False, "layer_norm_elementwise_affine": False}),
    ("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 96}),
    ("mixtral", {**WIDE, **LOCAL_MOE}),
    ("granitemoe", {**WIDE, **LOCAL_MOE}),
    ("olmoe", {**WIDE, **MOE}),
    ("phimoe", {**WIDE, **LOCAL_MOE, "attention_bias": True, "lm_head_bias": True}),
    ("qwen2_moe", {**WIDE, **MOE, "shared_expert_intermediate_size": 40}),
    ("qwen2_moe", {**WIDE, **MOE, "decoder_sparse_step": 2, "mlp_only_layers": [3]}),
    ("qwen3_moe", {**WIDE, **MOE, "mlp_only_layers": [0]}),
    (
        "glm4_moe",
        {**WIDE, **MOE, "n_routed_experts": 8, "num_experts": None, "use_qk_norm": True},
    ),
    ("gpt_oss", {**WIDE, **LOCAL_MOE, "head_dim": 16}),
    ("llama4_text", {**WIDE, **LOCAL_MOE, "intermediate_size_mlp": 56, "head_dim": 16}),
    ("llama4_text", {**WIDE, **LOCAL_MOE, "interleave_moe_layer_step": 2, "head_dim": 16}),
    ("deepseek_v2", {**LATENT, "first_k_dense_replace": 1}),
    ("deepseek_v2", {**LATENT, "q_lora_rank": None, "attention_bias": True, "mlp_bias": True}),
    ("deepseek_v3", {**LATENT, "first_k_dense_replace": 2}),
    (
        "deepseek_v32",
        {**LATENT, "first_k_dense_replace": 1, "index_n_heads": 2, "index_head_dim": 8},
    ),
    ("glm4_moe_lite", LATENT),
]

COMPOSITES = [
    ("gemma3", {**WIDE, "model_type": "gemma3_text"}, {**VISION, "patch_size": 14}),
    ("gemma3", {**WIDE}, {**VISION, "patch_size": 14, "vision_use_head": False}),
    (
        "gemma4",
        {
            **WIDE,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "hidden_size_per_layer_input": 0,
            "global_head_dim": 16,
            "head_dim": 16,
            "num_global_key_value_heads": 2,
            "num_kv_shared_layers": 0,
        },
        {**VISION, "head_dim": 8, "num_key_value_heads": 4},
    ),
    ("llava", {**WIDE, "model_type": "llama"}, {**VISION, "patch_size": 14}),
    ("llava", {**WIDE, "model_type": "mistral"}, {**VISION, "patch_size": 14}),
    (
        "llava",
        {**WIDE, "model_type": "mistral"},
        {**VISION, "model_type": "pixtral", "patch_size": 14},
    ),
    ("mistral3", {**WIDE, "model_type": "mistral"}, {**VISION, "patch_size": 14}),
    ("mistral3", {**WIDE, "model_type": "ministral3"}, {**VISION, "patch_size": 14}),
    ("llama4", {**WIDE, **LOCAL_MOE, "head_dim": 16}, {**VISION, "patch_size": 14}),
    (
        "mllama",
        {**WIDE, "cross_attention_layers": [1], "pad_token_id": 0},
        {**VISION, "patch_size": 14, "num_global_layers": 1, "intermediate_layers_indices": [0]},
    ),
    ("qwen2_vl", WIDE, {"depth": 2, "embed_dim": 32, "hidden_size": 64}),
    ("qwen2_5_vl", WIDE, {"depth": 2, "hidden_size": 32, "out_hidden_size": 64}),
    (
        "qwen3_vl",
        {**WIDE, "head_dim": 16},
        {"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "deepstack_visual_indexes": [0, 1]},
    ),
    ("qwen3_vl_moe", {**WIDE, **MOE}, {"depth": 2, "hidden_size": 32, "out_hidden_size": 64}),
    (
        "qwen3_5",
        {**WIDE, **DELTA, "head_dim": 16},
        {"depth": 2, "hidden_size": 32, "out_hidden_size": 64},
    ),
    (
        "qwen3_5_moe",
        {**WIDE, **DELTA, **MOE, "shared_expert_intermediate_size": 20},
        {"depth": 2, "hidden_size": 32, "out_hidden_size": 64},
    ),
    ("llava_next", {**WIDE, "model_type": "llama"}, {**VISION, "patch_size": 14}),
    ("llava_next", {**WIDE, "model_type": "mistral"}, {**SIGLIP, "vision_use_head": False}),
    ("llava_onevision", {**WIDE, "model_type": "qwen2"}, {**SIGLIP, "vision_use_head": False}),
    ("llava_onevision", {**WIDE, "model_type": "qwen2"}, SIGLIP),
    ("paligemma", {**WIDE, "model_type": "gemma"}, SIGLIP),
    ("paligemma", {**WIDE, "model_type": "gemma2"}, {**SIGLIP, "vision_use_head": False}),
    ("idefics3", {**WIDE, "model_type": "llama", "pad_token_id": 0}, {**VISION, "patch_size": 14}),
    ("smolvlm", {**WIDE, "model_type": "llama", "pad_token_id": 0}, {**VISION, "patch_size": 14}),
    ("internvl", {**WIDE, "model_type": "qwen2"}, {**VISION, "patch_size": 14}),
    (
        "internvl",
        {**WIDE, "model_type": "qwen3"},
        {**VISION, "image_size": [28, 28], "patch_size": [14, 14], "attention_bias": True},
    ),
    (
        "internvl",
        {**WIDE, "model_type": "qwen2"},
        {**VISION, "patch_size": 14, "use_qk_norm": True, "norm_type": "rms_norm"},
    ),
    (
        "internvl",
        {**WIDE, "model_type": "qwen2"},
        {**VISION, "patch_size": 14, "use_mean_pooling": False},
    ),
]


@functools.cache
def transformers():
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    import transformers as library

    return library


def built(config: dict, mapping: str):
    """Return transformers' own model of a config, without memory."""
    import torch
    from transformers.models.auto import modeling_auto

    library = transformers()
    parsed = library.CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    model_class = getattr(library, getattr(modeling_auto, mapping)[config["model_type"]])
    with torch.device("meta"):
        return model_class(parsed)


def kind_of(model, name: str) -> str:
    """Say what a parameter is from the module that holds it."""
    import torch

    path, _, leaf = name.rpartition(".")
    module = model.get_submodule(path)
    is_matrix = isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    if isinstance(module, torch.nn.Embedding):
        return "embedding"
    if "norm" in type(module).__name__.lower():
        return "norm"
    if is_matrix:
        return "bias" if leaf == "bias" else "linear"
    if path.endswith("experts"):
        return "bias" if leaf.endswith("_bias") else "experts"
    return "other"


def theirs(model) -> dict[tuple, int]:
    """Return how often each (name with layer numbers replaced, shape, kind) occurs."""
    found: dict[tuple, int] = {}
    for name, parameter in model.named_parameters():
        key = (
            re.sub(r"\.(layers?|h|blocks|deepstack_merger_list)\.\d+\.", r".\1.*.", name),
            tuple(parameter.shape),
            kind_of(model, name),
        )
        found[key] = found.get(key, 0) + 1
    return found


def ours(spec) -> dict[tuple, int]:
    found: dict[tuple, int] = {}
    for unit, tensor in spec.tensors():
        path = unit.name.partition(" (")[0]
        key = (f"{path}.{tensor.name}", tensor.shape, tensor.kind)
        found[key] = found.get(key, 0) + unit.count
    return found


@pytest.mark.parametrize(
    ("model_type", "values"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_parameter_has_the_name_shape_and_kind_that_transformers_gives_it(model_type, values):
    config = {"model_type": model_type, **{k: v for k, v in values.items() if v is not None}}
    if "q_lora_rank" in values:
        config["q_lora_rank"] = values["q_lora_rank"]
    model = built(config, "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    spec = describe(config, "tiny", "test")

    assert ours(spec) == theirs(model)
    assert spec.num_params == model.num_parameters()
    assert spec.layer_classes == tuple(sorted(model._no_split_modules))


@pytest.mark.parametrize(
    ("model_type", "text", "vision"),
    COMPOSITES,
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_vision_language_model_is_laid_out_with_its_tower_and_projector(model_type, text, vision):
    config = {"model_type": model_type, "text_config": text, "vision_config": vision}
    model = built(config, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES")
    spec = describe(config, "tiny", "test")

    assert ours(spec) == theirs(model)
    assert spec.num_params == model.num_parameters()
    assert spec.layer_classes == tuple(sorted(model._no_split_modules))


@pytest.mark.parametrize("top", [True, False, None])
@pytest.mark.parametrize("text", [True, False, None])
@pytest.mark.parametrize(
    "model_type", ["gemma3", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "llama4", "llava", "mistral3"]
)
def test_a_vision_language_model_ties_its_head_where_the_library_does(model_type, text, top):
    _, sizes, vision = next(case for case in COMPOSITES if case[0] == model_type)
    section = dict(sizes) if text is None else {**sizes, "tie_word_embeddings": text}
    config = {"model_type": model_type, "text_config": section, "vision_config": vision}
    if top is not None:
        config["tie_word_embeddings"] = top
    model = built(config, "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES")

    assert describe(config, "tiny", "test").num_params == model.num_parameters()


def test_every_family_with_a_layout_is_among_the_cases():
    # tests/models/test_both_stacks.py
    with_stacks = {name for group in BOTH_STACKS for name in GROUPS[group]}
    through_composites = {"mllama_text_model", *with_stacks}
    laid_out = {name for types in GROUPS.values() for name in types}
    tested = {name for name, _ in CASES} | {f"{name}_text" for name, _, _ in COMPOSITES}

    assert laid_out - tested - through_composites == set()


def test_attention_kinds_are_those_of_the_library():
    """`layer_types`, where the library has them, decide which layers slide."""
    wrong = []
    for model_type, values in CASES:
        config = {"model_type": model_type, **{k: v for k, v in values.items() if v is not None}}
        parsed = transformers().CONFIG_MAPPING[model_type].from_dict(dict(config))
        kinds = getattr(parsed, "layer_types", None)
        if not kinds or model_type == "deepseek_v32":
            continue
        sliding = sum(kind in ("sliding_attention", "chunked_attention") for kind in kinds)
        spec = describe(config, "tiny", "test")
        counted = sum(u.count for u in spec.layers if u.layer.attention_kind == "sliding")
        if sliding != counted:
            wrong.append((model_type, kinds, counted))

    assert not wrong

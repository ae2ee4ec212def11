"""LoRA's trainable parameters and default targets, against PEFT itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from preflight.formulas.adapters.adapters import PEFT_DEFAULT_TARGETS, num_trainable_params
from preflight.launch import Adapter, LaunchPlan
from preflight.models import describe

SHAPE = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
}


def test_default_targets_are_pefts():
    """Every entry of our table is PEFT's own."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as theirs

    assert {name: tuple(theirs[name]) for name in PEFT_DEFAULT_TARGETS} == PEFT_DEFAULT_TARGETS


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "gemma3_text", "phi3", "opt"])
@pytest.mark.parametrize("targets", [None, "all-linear", ("q_proj", "k_proj", "v_proj", "o_proj")])
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_trainable_parameters_are_exact(model_type, targets, kind):
    """Rank times (in + out) on every target, and DoRA's magnitudes, as PEFT makes them."""
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM

    if targets is None and model_type not in PEFT_DEFAULT_TARGETS:
        targets = "all-linear"
    if isinstance(targets, tuple) and model_type in ("phi3", "opt"):
        targets = "all-linear"
    more = {"ffn_dim": 128, "word_embed_proj_dim": 64} if model_type == "opt" else {}
    config = AutoConfig.for_model(model_type, **SHAPE, pad_token_id=0, **more)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    lora = peft.LoraConfig(
        r=4,
        use_dora=kind == "dora",
        target_modules=list(targets) if isinstance(targets, tuple) else targets,
        task_type="CAUSAL_LM",
    )
    with torch.device("meta"):
        wrapped = peft.get_peft_model(model, lora, low_cpu_mem_usage=True)
    theirs = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    spec = describe({**config.to_dict(), "model_type": model_type}, model_type, "test")
    plan = LaunchPlan(adapter=Adapter(kind, 4, targets=targets))

    assert num_trainable_params(plan, spec) == theirs


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize(
    ("model_type", "targets"),
    [
        ("llama", ("q_proj", "lm_head")),
        ("llama", ("embed_tokens",)),
        ("qwen2", ("q_proj", "down_proj", "embed_tokens", "lm_head")),
        ("gemma3_text", ("v_proj", "embed_tokens")),
        ("gpt2", ("c_attn", "wte", "lm_head")),
        ("gpt_neox", ("query_key_value", "embed_in", "embed_out")),
    ],
)
def test_an_embedding_and_a_head_that_are_named_are_adapted(model_type, targets, kind):
    test_trainable_parameters_are_exact(model_type, targets, kind)


MOE = {
    "num_local_experts": 8,
    "num_experts": 8,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "head_dim": 16,
    "num_key_value_heads": 4,
}


@pytest.mark.parametrize(
    "model_type", ["qwen3_moe", "mixtral", "olmoe", "deepseek_v3", "gpt_oss", "glm4_moe"]
)
def test_all_linear_on_experts_is_what_peft_makes(model_type):
    """Fused expert stacks and routers get adapters for some types and not for others."""
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **{**SHAPE, **MOE})
    lora = peft.LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        wrapped = peft.get_peft_model(model, lora, low_cpu_mem_usage=True)
    theirs = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    spec = describe({**config.to_dict(), "model_type": model_type}, model_type, "test")
    plan = LaunchPlan(adapter=Adapter("lora", 4, targets="all-linear"))

    assert num_trainable_params(plan, spec) == theirs


ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
USUAL_NAMES = ("gate_proj", "up_proj", "down_proj")


@pytest.mark.parametrize(
    ("model_type", "targets"),
    [
        ("qwen3_moe", (*ATTENTION, *USUAL_NAMES)),
        ("olmoe", (*ATTENTION, "down_proj")),
        ("mixtral", (*ATTENTION, "w1", "w2", "w3")),
        ("mixtral", (*ATTENTION, *USUAL_NAMES)),
        ("mixtral", (*ATTENTION, "gate")),
        ("deepseek_v3", (*ATTENTION, *USUAL_NAMES)),
        ("gpt_oss", (*ATTENTION, *USUAL_NAMES)),
        ("qwen3_moe", ATTENTION),
    ],
)
def test_names_of_an_experts_layers_reach_its_stack_where_peft_converts_them(model_type, targets):
    import peft
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **{**SHAPE, **MOE})
    lora = peft.LoraConfig(r=4, target_modules=list(targets), task_type="CAUSAL_LM")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        wrapped = peft.get_peft_model(model, lora, low_cpu_mem_usage=True)
    theirs = sum(p.numel() for p in wrapped.parameters() if p.requires_grad)
    spec = describe({**config.to_dict(), "model_type": model_type}, model_type, "test")
    plan = LaunchPlan(adapter=Adapter("lora", 4, targets=targets))

    assert num_trainable_params(plan, spec) == theirs


def test_a_peft_that_converts_no_names_and_axolotls_list_of_linear_layers_leave_experts_out():
    spec = describe(
        {**SHAPE, **MOE, "model_type": "qwen3_moe", "norm_topk_prob": True}, "qwen3_moe", "test"
    )
    every = LaunchPlan(adapter=Adapter("lora", 4, targets="all-linear"))
    of_attention = replace(every, adapter=Adapter("lora", 4, targets=ATTENTION))
    old = replace(every, versions={"peft": "0.18.0"})
    listed = replace(every, launcher="axolotl")

    least = num_trainable_params(of_attention, spec)
    assert num_trainable_params(every, spec) > least
    assert num_trainable_params(old, spec) == least
    assert num_trainable_params(listed, spec) == least

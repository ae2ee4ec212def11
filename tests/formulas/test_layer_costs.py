"""What a decoder layer keeps for backward, formula against autograd's own saved tensors on a real CPU run."""

from __future__ import annotations

import pytest
import torch
from saved_tensors import decoder_layers, saved_bytes_of_layer

from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import precision_of
from preflight.launch import Adapter, LaunchPlan
from preflight.models import describe

BATCH, LENGTH = 2, 64
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 512,
}
NO_DROPOUT = {"attn_pdrop": 0, "resid_pdrop": 0, "embd_pdrop": 0}
ROTARY_BYTES = 2 * 2 * 32
"""cos and sin of a head of 32 in bf16 per token: one copy for all layers, which the hooks see in each."""


def built(model_type: str, **more):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **{**SHAPE, **more})
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).train()
    return model, describe({**config.to_dict(), "model_type": model_type}, model_type, "test")


def plan_of(**more) -> LaunchPlan:
    return LaunchPlan(
        micro_batch_size=BATCH, seq_len=LENGTH, attention="sdpa", load_dtype="bf16",
        sequence_kind="fixed", **more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model_type", "more"),
    [
        ("llama", {}),
        ("mistral", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
        ("granite", {}),
        ("gemma", {"head_dim": 32}),
        ("gemma3_text", {"head_dim": 32}),
        ("olmo", {}),
        ("olmo2", {}),
        ("cohere", {}),
        ("phi3", {"pad_token_id": 0}),
        ("phi", {"num_key_value_heads": 8}),
        ("glm", {"head_dim": 32, "pad_token_id": 0}),
        ("stablelm", {"num_key_value_heads": 8}),
        ("starcoder2", {"residual_dropout": 0, "embedding_dropout": 0}),
        ("gpt_neox", {}),
        ("gpt2", {"n_embd": 256, "n_layer": 2, "n_head": 8, **NO_DROPOUT}),
        ("gpt_bigcode", {"n_embd": 256, "n_layer": 2, "n_head": 8, **NO_DROPOUT}),
        ("opt", {"ffn_dim": 704, "word_embed_proj_dim": 256, "dropout": 0.0}),
        ("mixtral", {"num_local_experts": 4, "num_experts_per_tok": 2}),
        (
            "qwen3_moe",
            {
                "moe_intermediate_size": 96,
                "num_experts": 8,
                "num_experts_per_tok": 2,
                "head_dim": 32,
            },
        ),
    ],
)
def test_a_layer_keeps_what_autograd_saves(model_type, more):
    """Full fine-tuning in bf16: within 0.3 % once the shared rotary tables are set apart."""
    model, spec = built(model_type, **more)
    measured = saved_bytes_of_layer(model, decoder_layers(model), 1, BATCH, LENGTH)
    predicted = layer_costs(plan_of(), spec, spec.layers[-1], precision_of(plan_of(), spec)).saved

    per_token = measured / (BATCH * LENGTH)
    assert 0.998 * predicted <= per_token <= predicted + ROTARY_BYTES + 0.003 * predicted


@pytest.mark.parametrize(("adapter_dtype", "autocast"), [("bf16", False), ("fp32", False)])
@pytest.mark.parametrize("targets", ["all-linear", ("q_proj", "v_proj")])
def test_a_frozen_layer_keeps_the_inputs_of_its_adapters(adapter_dtype, autocast, targets):
    """LoRA without dropout: bf16 adapters share inputs, fp32 adapters cast one each."""
    import peft

    model, spec = built("llama")
    adapter = Adapter("lora", 8, 16, 0.0, targets, adapter_dtype)
    model.enable_input_require_grads()
    wrapped = peft.get_peft_model(
        model,
        peft.LoraConfig(
            r=8,
            lora_alpha=16,
            target_modules=targets if isinstance(targets, str) else list(targets),
            task_type="CAUSAL_LM",
        ),
        autocast_adapter_dtype=adapter_dtype == "fp32",
    )
    measured = saved_bytes_of_layer(wrapped, decoder_layers(wrapped), 1, BATCH, LENGTH)
    plan = plan_of(adapter=adapter)
    predicted = layer_costs(plan, spec, spec.layers[-1], precision_of(plan, spec)).saved

    per_token = measured / (BATCH * LENGTH)
    assert predicted == pytest.approx(per_token - ROTARY_BYTES / 2, rel=0.015)


def test_eager_attention_keeps_its_scores():
    """Scores grow with the square of the length; flash-like kernels keep none."""
    model, spec = built("llama")
    model.config._attn_implementation = "eager"
    measured = saved_bytes_of_layer(model, decoder_layers(model), 1, BATCH, LENGTH)
    plan = LaunchPlan(
        micro_batch_size=BATCH, seq_len=LENGTH, attention="eager", load_dtype="bf16",
        sequence_kind="fixed",
    )  # fmt: skip
    predicted = layer_costs(plan, spec, spec.layers[-1], precision_of(plan, spec)).saved

    assert predicted == pytest.approx(measured / (BATCH * LENGTH), rel=0.03)

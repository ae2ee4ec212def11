"""Decoders with multi-head latent attention: DeepSeek V2, V3 and V3.2, GLM-4.7-Flash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preflight.model import LayerShape
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    decoder,
    expert_sizes,
    expert_stacks,
    gated_mlp,
    linear,
    norm,
    router,
)
from preflight.values import replace


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units: queries and keys come from narrow latents, values are narrower than keys."""
    hidden, vocab = view.size("hidden_size"), view.size("vocab_size")
    num_layers = view.size("num_hidden_layers")
    is_sparse = _sparse_layers(view, num_layers)

    def build(kind: str) -> tuple[Tensors, LayerShape]:
        shape = _shape(view, kind)
        return (
            *_attention(view, shape),
            *(_experts(view, shape) if kind == "experts" else _dense(view, shape)),
            *norm("input_layernorm", hidden),
            *norm("post_attention_layernorm", hidden),
        ), shape

    kinds = ["experts" if is_sparse(index) else "dense" for index in range(num_layers)]
    facts: dict[str, Any] = {
        "mla": {
            "q_lora_rank": view.optional_size("q_lora_rank"),
            "kv_lora_rank": view.size("kv_lora_rank"),
            "qk_rope_head_dim": view.size("qk_rope_head_dim"),
        },
    }
    if view.model_type == "deepseek_v32":
        facts["indexer"] = {
            "heads": view.size("index_n_heads"),
            "dim": view.size("index_head_dim"),
            "topk": view.size("index_topk"),
        }
    return decoder(view, paths, vocab, kinds, build, **facts)


def _sparse_layers(view: ConfigView, num_layers: int) -> Callable[[int], bool]:
    given = view.strings("mlp_layer_types")
    if given is not None and len(given) == num_layers:
        return lambda index: given[index] == "sparse"
    # GLM-4.7-Flash names no key for it: the first layer is dense (configuration_glm4_moe_lite.py).
    first = 1 if view.model_type == "glm4_moe_lite" else view.count("first_k_dense_replace")
    return lambda index: index >= first


def _shape(view: ConfigView, kind: str) -> LayerShape:
    num_heads = view.size("num_attention_heads")
    head_dim = view.size("qk_nope_head_dim") + view.size("qk_rope_head_dim")
    hidden, v_head_dim = view.size("hidden_size"), view.size("v_head_dim")
    if kind == "dense":
        sizes: dict[str, Any] = {"intermediate_size": view.size("intermediate_size")}
    else:
        width = view.size("moe_intermediate_size")
        shared = width * view.count("n_shared_experts")
        sizes = expert_sizes(view, "n_routed_experts", width, shared)
    return LayerShape(hidden, num_heads, num_heads, head_dim, v_head_dim=v_head_dim, **sizes)


def _attention(view: ConfigView, shape: LayerShape) -> Tensors:
    hidden, bias = shape.hidden_size, view.flag("attention_bias")
    kv_rank, rope = view.size("kv_lora_rank"), view.size("qk_rope_head_dim")
    q_rank = view.optional_size("q_lora_rank")
    v_size = shape.num_heads * (shape.v_head_dim or shape.head_dim)
    nope_size = shape.num_heads * view.size("qk_nope_head_dim")
    if q_rank is None:
        queries = linear("self_attn.q_proj", shape.query_size, hidden)
    else:
        queries = (
            *linear("self_attn.q_a_proj", q_rank, hidden, bias),
            *norm("self_attn.q_a_layernorm", q_rank),
            *linear("self_attn.q_b_proj", shape.query_size, q_rank),
        )
    tensors = (
        *queries,
        *linear("self_attn.kv_a_proj_with_mqa", kv_rank + rope, hidden, bias),
        *norm("self_attn.kv_a_layernorm", kv_rank),
        *linear("self_attn.kv_b_proj", nope_size + v_size, kv_rank),
        *linear("self_attn.o_proj", hidden, v_size, bias),
    )
    if view.model_type == "deepseek_v32":
        index_heads, index_dim = view.size("index_n_heads"), view.size("index_head_dim")
        indexer = (
            *linear("self_attn.indexer.wq_b", index_heads * index_dim, q_rank or hidden),
            *linear("self_attn.indexer.wk", index_dim, hidden),
            *norm("self_attn.indexer.k_norm", index_dim, bias=True),
            *linear("self_attn.indexer.weights_proj", index_heads, hidden),
        )
        # `@torch.no_grad()` on DeepseekV32Indexer.forward (modeling_deepseek_v32.py, 5.24.0:178)
        tensors += tuple(replace(tensor, gets_gradient=False) for tensor in indexer)
    return tensors


def _mlp_bias(view: ConfigView) -> bool:
    """Tell whether MLPs have biases: only DeepSeek V2 reads the key."""
    return view.model_type == "deepseek_v2" and view.flag("mlp_bias")


def _dense(view: ConfigView, shape: LayerShape) -> Tensors:
    return gated_mlp("mlp", shape.intermediate_size, shape.hidden_size, _mlp_bias(view))


def _experts(view: ConfigView, shape: LayerShape) -> Tensors:
    num, hidden, width = shape.num_experts, shape.hidden_size, shape.moe_intermediate_size
    shared = shape.shared_expert_intermediate_size
    return (
        *router("mlp.gate.weight", num, hidden, stays_fp32=True),
        *expert_stacks("mlp.experts", num, width, hidden),
        *(gated_mlp("mlp.shared_experts", shared, hidden, _mlp_bias(view)) if shared else ()),
    )

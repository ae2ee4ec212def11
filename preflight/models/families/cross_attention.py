"""Llama 3.2 Vision's decoder: Llama layers, and layers that attend to the image instead of the text."""

from __future__ import annotations

from dataclasses import replace

from preflight.model import LayerShape
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    decoder,
    gated_mlp,
    heads,
    norm,
    other,
    split_attention,
)

CROSS_LAYERS = (3, 8, 13, 18, 23, 28, 33, 38)
"""The default of configuration_mllama.py."""

EXTRA_EMBEDDINGS = 8
"""Rows for image tokens beyond the vocabulary (modeling_mllama.py, MllamaTextModel)."""


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of the text decoder."""
    hidden, width = view.size("hidden_size"), view.size("intermediate_size")
    vocab = view.size("vocab_size")
    num_heads, num_kv_heads, _ = heads(view)
    head_dim = hidden // num_heads
    cross = view.indexes("cross_attention_layers") or frozenset(CROSS_LAYERS)
    shape = LayerShape(hidden, num_heads, num_kv_heads, head_dim, width)

    def build(kind: str) -> tuple[Tensors, LayerShape]:
        name = "cross_attn" if kind == "cross" else "self_attn"
        gates: Tensors = ()
        if kind == "cross":
            gates = (
                *norm("cross_attn.q_norm", head_dim),
                *norm("cross_attn.k_norm", head_dim),
                *other("cross_attn_attn_gate", 1),
                *other("cross_attn_mlp_gate", 1),
            )
        return (
            *split_attention(hidden, num_heads, num_kv_heads, head_dim, name=name),
            *gates,
            *gated_mlp("mlp", width, hidden),
            *norm("input_layernorm", hidden),
            *norm("post_attention_layernorm", hidden),
        ), replace(shape, attention_kind="cross" if kind == "cross" else "full")

    num_layers = view.size("num_hidden_layers")
    kinds = ["cross" if index in cross else "self" for index in range(num_layers)]
    return decoder(
        view, paths, vocab, kinds, build, extra_rows=EXTRA_EMBEDDINGS, cross_attention=True
    )

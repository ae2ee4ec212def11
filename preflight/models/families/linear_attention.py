"""Decoders most of whose layers keep a recurrent state instead of keys and values: Qwen3-Next and Qwen3.5."""

from __future__ import annotations

from typing import Any

from preflight.model import LayerShape
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    attention_kinds,
    decoder,
    expert_sizes,
    expert_stacks,
    gated_mlp,
    heads,
    linear,
    norm,
    other,
    qk_norms,
    router,
)
from preflight.values import dataclass

FULL_EVERY = 4
"""`full_attention_interval` where no `layer_types` are given (configuration_qwen3_next.py, 5.24.0)."""


@dataclass(frozen=True)
class Delta:
    """The sizes of a gated delta rule (Qwen3NextGatedDeltaNet, Qwen3_5GatedDeltaNet)."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    kernel: int

    @property
    def keys(self) -> int:
        return self.key_heads * self.key_dim

    @property
    def values(self) -> int:
        return self.value_heads * self.value_dim


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units: a gated delta rule or gated attention, then a gated MLP or experts."""
    hidden, vocab = view.size("hidden_size"), view.size("vocab_size")
    delta = Delta(
        view.size("linear_num_key_heads"),
        view.size("linear_num_value_heads"),
        view.size("linear_key_head_dim"),
        view.size("linear_value_head_dim"),
        view.size("linear_conv_kernel_dim"),
    )

    def build(kind: tuple[str, str]) -> tuple[Tensors, LayerShape]:
        attention, mlp = kind
        shape = _shape(view, attention, mlp)
        mixer = _delta_rule(view, delta) if attention == "linear" else _attention(view, shape)
        return (
            *mixer,
            *(
                _experts(shape)
                if mlp == "experts"
                else gated_mlp("mlp", shape.intermediate_size, hidden)
            ),
            *norm("input_layernorm", hidden),
            *norm("post_attention_layernorm", hidden),
        ), shape

    interval = view.optional_size("full_attention_interval") or FULL_EVERY
    kinds = attention_kinds(view, lambda i: "linear" if (i + 1) % interval else "full")
    return decoder(
        view,
        paths,
        vocab,
        [(kind, _mlp_of(view, index)) for index, kind in enumerate(kinds)],
        build,
        norm="gemma_rms",
        qk_norm=True,
        kernels=("causal_conv1d", "fla"),
        delta={part: getattr(delta, part) for part in Delta.__annotations__},
    )


def _mlp_of(view: ConfigView, index: int) -> str:
    if view.model_type == "qwen3_5_text":
        return "dense"
    if view.model_type == "qwen3_5_moe_text":
        return "experts"
    step, dense = view.size("decoder_sparse_step"), view.indexes("mlp_only_layers")
    is_sparse = index not in dense and view.count("num_experts") > 0 and (index + 1) % step == 0
    return "experts" if is_sparse else "dense"


def _shape(view: ConfigView, attention: str, mlp: str) -> LayerShape:
    num_heads, num_kv_heads, head_dim = heads(view)
    hidden = view.size("hidden_size")
    if mlp == "dense":
        sizes: dict[str, Any] = {"intermediate_size": view.size("intermediate_size")}
    else:
        shared = view.size("shared_expert_intermediate_size")
        sizes = expert_sizes(view, "num_experts", view.size("moe_intermediate_size"), shared)
    return LayerShape(hidden, num_heads, num_kv_heads, head_dim, **sizes, attention_kind=attention)


def _attention(view: ConfigView, shape: LayerShape) -> Tensors:
    """Return attention whose query projection makes an output gate too."""
    hidden, bias = shape.hidden_size, view.flag("attention_bias")
    return (
        *linear("self_attn.q_proj", 2 * shape.query_size, hidden, bias),
        *linear("self_attn.k_proj", shape.kv_size, hidden, bias),
        *linear("self_attn.v_proj", shape.kv_size, hidden, bias),
        *linear("self_attn.o_proj", hidden, shape.query_size, bias),
        *qk_norms("head", shape.num_heads, shape.num_kv_heads, shape.head_dim),
    )


def _delta_rule(view: ConfigView, delta: Delta) -> Tensors:
    hidden, mixed = view.size("hidden_size"), 2 * delta.keys + delta.values
    if view.model_type == "qwen3_next":
        inputs = (
            *linear("linear_attn.in_proj_qkvz", mixed + delta.values, hidden),
            *linear("linear_attn.in_proj_ba", 2 * delta.value_heads, hidden),
        )
    else:
        inputs = (
            *linear("linear_attn.in_proj_qkv", mixed, hidden),
            *linear("linear_attn.in_proj_z", delta.values, hidden),
            *linear("linear_attn.in_proj_b", delta.value_heads, hidden),
            *linear("linear_attn.in_proj_a", delta.value_heads, hidden),
        )
    return (
        *other("linear_attn.dt_bias", delta.value_heads),
        *other("linear_attn.A_log", delta.value_heads),
        *other("linear_attn.conv1d.weight", mixed, 1, delta.kernel),
        *inputs,
        *norm("linear_attn.norm", delta.value_dim),
        *linear("linear_attn.out_proj", hidden, delta.values),
    )


def _experts(shape: LayerShape) -> Tensors:
    num, hidden, width = shape.num_experts, shape.hidden_size, shape.moe_intermediate_size
    return (
        *router("mlp.gate.weight", num, hidden, stays_fp32=False),
        *expert_stacks("mlp.experts", num, width, hidden),
        *gated_mlp("mlp.shared_expert", shape.shared_expert_intermediate_size, hidden),
        *linear("mlp.shared_expert_gate", 1, hidden),
    )

"""Decoders most of whose layers keep a recurrent state instead of keys and values: Qwen3-Next and Qwen3.5."""

from __future__ import annotations

from preflight.model import LayerShape
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    attention_kinds,
    embedding_unit,
    experts,
    gated_mlp,
    head_units,
    heads,
    layer_units,
    linear,
    norm,
    norm_unit,
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
            *(_experts(shape) if mlp == "experts" else _dense(shape)),
            *norm("input_layernorm", hidden),
            *norm("post_attention_layernorm", hidden),
        ), shape

    interval = view.optional_size("full_attention_interval") or FULL_EVERY
    kinds = attention_kinds(view, lambda i: "linear" if (i + 1) % interval else "full")
    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab, hidden),
        *layer_units(
            f"{paths.body}.layers",
            [(kind, _mlp_of(view, index)) for index, kind in enumerate(kinds)],
            build,
        ),
        norm_unit(f"{paths.body}.norm", hidden),
        *head_units(paths, vocab, hidden),
    )
    facts = {
        "norm": "gemma_rms",
        "qk_norm": True,
        "mlp": "gated",
        "activation": view.get("hidden_act"),
        "parallel_block": False,
        "post_norms": False,
        "kernels": ("causal_conv1d", "fla"),
        "delta": {
            "key_heads": delta.key_heads,
            "value_heads": delta.value_heads,
            "key_dim": delta.key_dim,
            "value_dim": delta.value_dim,
            "kernel": delta.kernel,
        },
    }
    return Layout(units, facts)


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
        width = view.size("intermediate_size")
        return LayerShape(
            hidden, num_heads, num_kv_heads, head_dim, width, attention_kind=attention
        )
    return LayerShape(
        hidden,
        num_heads,
        num_kv_heads,
        head_dim,
        0,
        num_experts=view.size("num_experts"),
        experts_per_token=view.size("num_experts_per_tok"),
        moe_intermediate_size=view.size("moe_intermediate_size"),
        shared_expert_intermediate_size=view.size("shared_expert_intermediate_size"),
        attention_kind=attention,
    )


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


def _dense(shape: LayerShape) -> Tensors:
    return gated_mlp("mlp", shape.intermediate_size, shape.hidden_size)


def _experts(shape: LayerShape) -> Tensors:
    num, hidden, width = shape.num_experts, shape.hidden_size, shape.moe_intermediate_size
    return (
        *router("mlp.gate.weight", num, hidden, stays_fp32=False),
        *experts("mlp.experts.gate_up_proj", num, 2 * width, hidden),
        *experts("mlp.experts.down_proj", num, hidden, width),
        *gated_mlp("mlp.shared_expert", shape.shared_expert_intermediate_size, hidden),
        *linear("mlp.shared_expert_gate", 1, hidden),
    )

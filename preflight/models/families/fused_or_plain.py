"""Dense decoders with fused projections or a plain MLP: Phi, Phi-3, GLM-4 and StarCoder2."""

from __future__ import annotations

from collections.abc import Callable

from preflight.model import LayerShape
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    all_full,
    attention_kinds,
    embedding_unit,
    head_units,
    heads,
    layer_units,
    linear,
    norm,
    norm_unit,
    split_attention,
    windowed_if_given,
)


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of one of these decoders."""
    return {"phi": _phi, "phi3": _phi3, "glm": _glm, "glm4": _glm, "starcoder2": _starcoder2}[
        view.model_type
    ](view, paths)


def _shape(view: ConfigView, kind: str = "full") -> LayerShape:
    window = view.optional_size("sliding_window") if kind == "sliding" else None
    return LayerShape(
        view.size("hidden_size"),
        *heads(view),
        view.size("intermediate_size"),
        attention_kind=kind,
        sliding_window=window,
    )


def _phi(view: ConfigView, paths: Paths) -> Layout:
    """Phi-1 and Phi-2: one norm for attention and MLP, biases everywhere, a plain MLP."""
    shape = _shape(view)
    hidden, width = shape.hidden_size, shape.intermediate_size
    vocab = view.size("vocab_size")
    qk_norm = view.flag("qk_layernorm")
    tensors = (
        *split_attention(
            hidden,
            shape.num_heads,
            shape.num_kv_heads,
            shape.head_dim,
            qkv_bias=True,
            out_bias=True,
            out_name="dense",
        ),
        *(
            (
                *norm("self_attn.q_layernorm", hidden // shape.num_heads, bias=True),
                *norm("self_attn.k_layernorm", hidden // shape.num_heads, bias=True),
            )
            if qk_norm
            else ()
        ),
        *linear("mlp.fc1", width, hidden, bias=True),
        *linear("mlp.fc2", hidden, width, bias=True),
        *norm("input_layernorm", hidden, bias=True),
    )
    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab, hidden),
        *layer_units(
            f"{paths.body}.layers",
            ("full",) * view.size("num_hidden_layers"),
            lambda kind: (tensors, shape),
        ),
        norm_unit(f"{paths.body}.final_layernorm", hidden, bias=True),
        *head_units(paths, vocab, hidden, bias=True),
    )
    return Layout(
        units,
        {
            "norm": "layernorm",
            "qk_norm": qk_norm,
            "mlp": "plain",
            "activation": view.get("hidden_act"),
            "parallel_block": True,
        },
    )


def _phi3(view: ConfigView, paths: Paths) -> Layout:
    """Phi-3 and Phi-4: Llama with `qkv_proj` and `gate_up_proj`."""

    def build(kind: str) -> tuple[Tensors, LayerShape]:
        shape = _shape(view, kind)
        hidden, width = shape.hidden_size, shape.intermediate_size
        fused = shape.query_size + 2 * shape.kv_size
        return (
            *linear("self_attn.o_proj", hidden, shape.query_size),
            *linear("self_attn.qkv_proj", fused, hidden),
            *linear("mlp.gate_up_proj", 2 * width, hidden),
            *linear("mlp.down_proj", hidden, width),
            *norm("input_layernorm", hidden),
            *norm("post_attention_layernorm", hidden),
        ), shape

    return _rms_layout(view, paths, build, attention_kinds(view, windowed_if_given(view)))


def _glm(view: ConfigView, paths: Paths) -> Layout:
    """GLM-4 (9B and 0414): split projections with a bias, a fused gate, and in `glm4` norms after sublayers too."""
    after = view.model_type == "glm4"
    bias = view.flag("attention_bias")

    def build(kind: str) -> tuple[Tensors, LayerShape]:
        shape = _shape(view, kind)
        hidden, width = shape.hidden_size, shape.intermediate_size
        names = ["input_layernorm", "post_attention_layernorm"]
        if after:
            names += ["post_self_attn_layernorm", "post_mlp_layernorm"]
        return (
            *split_attention(hidden, shape.num_heads, shape.num_kv_heads, shape.head_dim, bias),
            *linear("mlp.gate_up_proj", 2 * width, hidden),
            *linear("mlp.down_proj", hidden, width),
            *(t for name in names for t in norm(name, hidden)),
        ), shape

    return _rms_layout(view, paths, build, attention_kinds(view, all_full), post_norms=after)


def _rms_layout(
    view: ConfigView,
    paths: Paths,
    build: Callable[[str], tuple[Tensors, LayerShape]],
    kinds: tuple[str, ...],
    post_norms: bool = False,
) -> Layout:
    hidden, vocab = view.size("hidden_size"), view.size("vocab_size")
    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab, hidden),
        *layer_units(f"{paths.body}.layers", kinds, build),
        norm_unit(f"{paths.body}.norm", hidden),
        *head_units(paths, vocab, hidden),
    )
    return Layout(
        units,
        {
            "norm": "rms",
            "qk_norm": False,
            "mlp": "gated",
            "activation": view.get("hidden_act"),
            "parallel_block": False,
            "post_norms": post_norms,
        },
    )


def _starcoder2(view: ConfigView, paths: Paths) -> Layout:
    """StarCoder2: Llama's attention, LayerNorm, and GPT-2's plain MLP."""
    bias = view.flag("use_bias")
    hidden, vocab = view.size("hidden_size"), view.size("vocab_size")

    def build(kind: str) -> tuple[Tensors, LayerShape]:
        shape = _shape(view, kind)
        width = shape.intermediate_size
        return (
            *split_attention(
                hidden, shape.num_heads, shape.num_kv_heads, shape.head_dim, bias, bias
            ),
            *linear("mlp.c_fc", width, hidden, bias),
            *linear("mlp.c_proj", hidden, width, bias),
            *norm("input_layernorm", hidden, bias=True),
            *norm("post_attention_layernorm", hidden, bias=True),
        ), shape

    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab, hidden),
        *layer_units(f"{paths.body}.layers", attention_kinds(view, windowed_if_given(view)), build),
        norm_unit(f"{paths.body}.norm", hidden, bias=True),
        *head_units(paths, vocab, hidden),
    )
    return Layout(
        units,
        {
            "norm": "layernorm",
            "qk_norm": False,
            "mlp": "plain",
            "activation": view.get("hidden_act"),
            "parallel_block": False,
        },
    )

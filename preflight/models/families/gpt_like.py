"""Decoders from before Llama: GPT-2, GPT-BigCode, GPT-J, GPT-NeoX, Falcon, OPT and BLOOM; and Phi-1 and Phi-2."""

from __future__ import annotations

from functools import partial
from typing import Any

from preflight.model import LayerShape, ModelUnit
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    conv1d,
    embedding_unit,
    head_units,
    heads,
    layer_units,
    linear,
    norm,
    norm_unit,
    split_attention,
)


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of one of these decoders; their modules hang where each family put them."""
    return {
        "gpt2": _gpt2,
        "gpt_bigcode": _gpt2,
        "gptj": _gptj,
        "gpt_neox": _gpt_neox,
        "falcon": _falcon,
        "opt": _opt,
        "bloom": _bloom,
        "phi": _phi,
    }[view.model_type](view, paths)


def _facts(activation: Any, **more: Any) -> dict[str, Any]:
    return {"norm": "layernorm", "mlp": "plain", "activation": activation, **more}


def _same_layers(
    path: str, view: ConfigView, tensors: Tensors, shape: LayerShape
) -> tuple[ModelUnit, ...]:
    kinds = ("full",) * view.size("num_hidden_layers")
    return layer_units(path, kinds, lambda kind: (tensors, shape))


def _sizes(view: ConfigView, hidden: int, width: str = "") -> tuple[int, int, int, int]:
    """Return the vocabulary, the heads and their size, and the MLP's width: four times the hidden size where none is given."""
    num_heads, vocab = view.size("num_attention_heads"), view.size("vocab_size")
    if hidden % num_heads:
        view.complain(
            "num_attention_heads",
            f"the hidden size {hidden} is not a multiple of the {num_heads} attention heads",
        )
    wide = (view.optional_size(width) if width else None) or 4 * hidden
    return vocab, num_heads, max(1, hidden // num_heads), wide


def _gpt2(view: ConfigView, paths: Paths) -> Layout:
    hidden = view.size("hidden_size")
    vocab, num_heads, head_dim, width = _sizes(view, hidden, "n_inner")
    bigcode = view.model_type == "gpt_bigcode"
    num_kv_heads = 1 if bigcode and view.flag("multi_query") else num_heads
    fused = hidden + 2 * num_kv_heads * head_dim

    def matrix(name: str, num_out: int, num_in: int) -> Tensors:
        return linear(name, num_out, num_in, True) if bigcode else conv1d(name, num_out, num_in)

    tensors = (
        *norm("ln_1", hidden, bias=True),
        *matrix("attn.c_attn", fused, hidden),
        *matrix("attn.c_proj", hidden, hidden),
        *norm("ln_2", hidden, bias=True),
        *matrix("mlp.c_fc", width, hidden),
        *matrix("mlp.c_proj", hidden, width),
    )
    shape = LayerShape(hidden, num_heads, num_kv_heads, head_dim, width)
    units = (
        embedding_unit("transformer.wte", vocab, hidden),
        embedding_unit("transformer.wpe", view.size("max_position_embeddings"), hidden),
        *_same_layers("transformer.h", view, tensors, shape),
        norm_unit("transformer.ln_f", hidden, bias=True),
        *head_units(paths, vocab, hidden),
    )
    facts = _facts(view.get("activation_function"), conv1d=not bigcode)
    return Layout(units, facts)


def _gptj(view: ConfigView, paths: Paths) -> Layout:
    hidden = view.size("hidden_size")
    vocab, num_heads, head_dim, width = _sizes(view, hidden, "n_inner")
    tensors = (
        *norm("ln_1", hidden, bias=True),
        *split_attention(hidden, num_heads, num_heads, head_dim, name="attn", out_name="out_proj"),
        *linear("mlp.fc_in", width, hidden, True),
        *linear("mlp.fc_out", hidden, width, True),
    )
    shape = LayerShape(hidden, num_heads, num_heads, head_dim, width)
    units = (
        embedding_unit("transformer.wte", vocab, hidden),
        *_same_layers("transformer.h", view, tensors, shape),
        norm_unit("transformer.ln_f", hidden, bias=True),
        *head_units(paths, vocab, hidden, bias=True),
    )
    facts = _facts(view.get("activation_function"), parallel_block=True)
    return Layout(units, facts)


def _gpt_neox(view: ConfigView, paths: Paths) -> Layout:
    hidden, width = view.size("hidden_size"), view.size("intermediate_size")
    vocab, num_heads, head_dim, _ = _sizes(view, hidden)
    bias = view.flag("attention_bias")
    tensors = (
        *norm("input_layernorm", hidden, bias=True),
        *norm("post_attention_layernorm", hidden, bias=True),
        *linear("attention.query_key_value", 3 * hidden, hidden, bias),
        *linear("attention.dense", hidden, hidden, bias),
        *linear("mlp.dense_h_to_4h", width, hidden, True),
        *linear("mlp.dense_4h_to_h", hidden, width, True),
    )
    shape = LayerShape(hidden, num_heads, num_heads, head_dim, width)
    units = (
        embedding_unit("gpt_neox.embed_in", vocab, hidden),
        *_same_layers("gpt_neox.layers", view, tensors, shape),
        norm_unit("gpt_neox.final_layer_norm", hidden, bias=True),
        *head_units(paths, vocab, hidden),
    )
    parallel = view.flag("use_parallel_residual")
    facts = _facts(view.get("hidden_act"), parallel_block=parallel, two_norms=True)
    return Layout(units, facts)


def _falcon(view: ConfigView, paths: Paths) -> Layout:
    hidden = view.size("hidden_size")
    vocab, num_heads, head_dim, width = _sizes(view, hidden, "ffn_hidden_size")
    bias = view.flag("bias")
    new = view.flag("new_decoder_architecture")
    num_kv_heads = num_heads
    if new:
        num_kv_heads = view.optional_size("num_kv_heads") or num_heads
    elif view.flag("multi_query"):
        num_kv_heads = 1
    parallel = view.flag("parallel_attn")
    two_norms = view.optional_size("num_ln_in_parallel_attn") == 2 or (
        new and view.get("num_ln_in_parallel_attn") is None
    )
    if not parallel:
        norms: tuple[str, ...] = ("post_attention_layernorm", "input_layernorm")
    else:
        norms = ("ln_attn", "ln_mlp") if two_norms else ("input_layernorm",)
    own = partial(linear, is_of_subclass=True)  # FalconLinear
    tensors = (
        *own("self_attention.query_key_value", hidden + 2 * num_kv_heads * head_dim, hidden, bias),
        *own("self_attention.dense", hidden, hidden, bias),
        *own("mlp.dense_h_to_4h", width, hidden, bias),
        *own("mlp.dense_4h_to_h", hidden, width, bias),
        *(t for name in norms for t in norm(name, hidden, bias=True)),
    )
    shape = LayerShape(hidden, num_heads, num_kv_heads, head_dim, width)
    units = (
        embedding_unit("transformer.word_embeddings", vocab, hidden),
        *_same_layers("transformer.h", view, tensors, shape),
        norm_unit("transformer.ln_f", hidden, bias=True),
        *head_units(paths, vocab, hidden),
    )
    facts = _facts(
        view.get("activation"),
        parallel_block=parallel,
        two_norms=parallel and two_norms,
    )
    return Layout(units, facts)


def _opt(view: ConfigView, paths: Paths) -> Layout:
    hidden, width = view.size("hidden_size"), view.size("ffn_dim")
    vocab, num_heads, head_dim, _ = _sizes(view, hidden)
    embed, bias = view.optional_size("word_embed_proj_dim") or hidden, view.flag("enable_bias")
    affine = view.flag("layer_norm_elementwise_affine")
    tensors = (
        *split_attention(hidden, num_heads, num_heads, head_dim, bias, bias, out_name="out_proj"),
        *(norm("self_attn_layer_norm", hidden, bias=True) if affine else ()),
        *linear("fc1", width, hidden, bias),
        *linear("fc2", hidden, width, bias),
        *(norm("final_layer_norm", hidden, bias=True) if affine else ()),
    )
    shape = LayerShape(hidden, num_heads, num_heads, head_dim, width)
    # Positions are shifted by 2 (modeling_opt.py, OPTLearnedPositionalEmbedding).
    positions = view.size("max_position_embeddings") + 2
    units = [
        embedding_unit("model.decoder.embed_tokens", vocab, embed),
        embedding_unit("model.decoder.embed_positions", positions, hidden),
    ]
    if embed != hidden:
        units += [
            ModelUnit("model.decoder.project_out", "other", _unnamed(linear("x", embed, hidden))),
            ModelUnit("model.decoder.project_in", "other", _unnamed(linear("x", hidden, embed))),
        ]
    if view.flag("do_layer_norm_before") and not view.flag("_remove_final_layer_norm") and affine:
        units.append(norm_unit("model.decoder.final_layer_norm", hidden, bias=True))
    units += _same_layers("model.decoder.layers", view, tensors, shape)
    units += head_units(paths, vocab, embed)
    return Layout(tuple(units), _facts(view.get("activation_function")))


def _bloom(view: ConfigView, paths: Paths) -> Layout:
    # Older files call the hidden size n_embed (configuration_bloom.py).
    hidden = view.size("n_embed") if view.is_given("n_embed") else view.size("hidden_size")
    vocab, num_heads, head_dim, width = _sizes(view, hidden)
    tensors = (
        *norm("input_layernorm", hidden, bias=True),
        *linear("self_attention.query_key_value", 3 * hidden, hidden, True),
        *linear("self_attention.dense", hidden, hidden, True),
        *norm("post_attention_layernorm", hidden, bias=True),
        *linear("mlp.dense_h_to_4h", width, hidden, True),
        *linear("mlp.dense_4h_to_h", hidden, width, True),
    )
    shape = LayerShape(hidden, num_heads, num_heads, head_dim, width)
    units = (
        embedding_unit("transformer.word_embeddings", vocab, hidden),
        ModelUnit(
            "transformer.word_embeddings_layernorm", "other", _unnamed(norm("x", hidden, bias=True))
        ),
        *_same_layers("transformer.h", view, tensors, shape),
        norm_unit("transformer.ln_f", hidden, bias=True),
        *head_units(paths, vocab, hidden),
    )
    return Layout(units, _facts("bloom_gelu"))


def _phi(view: ConfigView, paths: Paths) -> Layout:
    """Phi-1 and Phi-2: one norm for attention and MLP, biases everywhere, a plain MLP."""
    hidden, width, sizes = view.size("hidden_size"), view.size("intermediate_size"), heads(view)
    qk_norm = view.flag("qk_layernorm")
    normed = ("self_attn.q_layernorm", "self_attn.k_layernorm") if qk_norm else ()
    tensors = (
        *split_attention(hidden, *sizes, qkv_bias=True, out_bias=True, out_name="dense"),
        *(t for name in normed for t in norm(name, hidden // sizes[0], bias=True)),
        *linear("mlp.fc1", width, hidden, bias=True),
        *linear("mlp.fc2", hidden, width, bias=True),
        *norm("input_layernorm", hidden, bias=True),
    )
    vocab = view.size("vocab_size")
    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab, hidden),
        *_same_layers(f"{paths.body}.layers", view, tensors, LayerShape(hidden, *sizes, width)),
        norm_unit(f"{paths.body}.final_layernorm", hidden, bias=True),
        *head_units(paths, vocab, hidden, bias=True),
    )
    facts = _facts(view.get("hidden_act"), parallel_block=True, qk_norm=qk_norm)
    return Layout(units, facts)


def _unnamed(tensors: Tensors) -> Tensors:
    """Return tensors named as inside their own module: `weight`, not `x.weight`."""
    from dataclasses import replace

    return tuple(replace(tensor, name=tensor.name.rpartition(".")[2]) for tensor in tensors)

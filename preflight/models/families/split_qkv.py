"""Dense decoders with separate query, key and value projections and a gated MLP: Llama and its relatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from preflight.model import LayerShape
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    all_full,
    attention_kinds,
    embedding_unit,
    full_every,
    gated_mlp,
    head_units,
    heads,
    layer_units,
    norm,
    norm_unit,
    qk_norms,
    split_attention,
    windowed_if_given,
)
from preflight.values import dataclass

Flag = Callable[[ConfigView], bool]


def _never(view: ConfigView) -> bool:
    return False


def _always(view: ConfigView) -> bool:
    return True


def _key(name: str) -> Flag:
    return lambda view: view.flag(name)


BEFORE_BOTH = ("input_layernorm", "post_attention_layernorm")
AROUND_BOTH = (*BEFORE_BOTH, "pre_feedforward_layernorm", "post_feedforward_layernorm")
AFTER_BOTH = ("post_attention_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True)
class Family:
    """How one family differs from Llama."""

    qkv_bias: Flag = _never
    out_bias: Flag = _never
    mlp_bias: Flag = _never
    norm: str = "rms"
    norms: tuple[str, ...] = BEFORE_BOTH
    qk_norm: str = ""
    """head (one weight of head_dim), whole (over all heads), per_head (a weight for each), or nothing."""
    qk_norm_if: Flag = _always
    sliding: Callable[[ConfigView], Callable[[int], str]] = lambda view: all_full
    parallel_if: Flag = _never
    activation_key: str = "hidden_act"


def _last_layers(view: ConfigView) -> Callable[[int], str]:
    """Qwen: only with `use_sliding_window`, and only from layer `max_window_layers` on."""
    if not view.flag("use_sliding_window") or not view.get("sliding_window"):
        return all_full
    first = view.count("max_window_layers")
    return lambda index: "sliding" if index >= first else "full"


def _pattern(default: int) -> Callable[[ConfigView], Callable[[int], str]]:
    return lambda view: full_every(view.optional_size("sliding_window_pattern") or default)


def _rope_free(view: ConfigView) -> Callable[[int], str]:
    """SmolLM3: layers without rotary embedding slide, where sliding is on at all."""
    if not view.flag("use_sliding_window") or not view.get("sliding_window"):
        return all_full
    given = view.get("no_rope_layers")
    interval = view.optional_size("no_rope_layer_interval") or 4
    if isinstance(given, list) and len(given) == view.size("num_hidden_layers"):
        return lambda index: "full" if given[index] else "sliding"
    return lambda index: "full" if (index + 1) % interval else "sliding"


_BIAS = _key("attention_bias")

FAMILIES: dict[str, Family] = {
    "llama": Family(_BIAS, _BIAS, _key("mlp_bias")),
    "mistral": Family(sliding=windowed_if_given),
    "ministral": Family(sliding=windowed_if_given),
    "ministral3": Family(sliding=windowed_if_given),
    "granite": Family(_BIAS, _BIAS, _key("mlp_bias")),
    "smollm3": Family(_BIAS, _BIAS, _key("mlp_bias"), sliding=_rope_free),
    "qwen2": Family(_always, sliding=_last_layers),
    "qwen2_vl_text": Family(_always, sliding=_last_layers),
    "qwen2_5_vl_text": Family(_always, sliding=_last_layers),
    "qwen3": Family(_BIAS, _BIAS, qk_norm="head", sliding=_last_layers),
    "qwen3_vl_text": Family(_BIAS, _BIAS, qk_norm="head"),
    "gemma": Family(_BIAS, _BIAS, norm="gemma_rms"),
    "gemma2": Family(
        _BIAS,
        _BIAS,
        norm="gemma_rms",
        norms=AROUND_BOTH,
        sliding=_pattern(2),
        activation_key="hidden_activation",
    ),
    "gemma3_text": Family(
        _BIAS,
        _BIAS,
        norm="gemma_rms",
        norms=AROUND_BOTH,
        qk_norm="head",
        sliding=_pattern(6),
        activation_key="hidden_activation",
    ),
    "olmo": Family(_BIAS, _BIAS, norm="layernorm_plain", norms=()),
    "olmo2": Family(_BIAS, _BIAS, norms=AFTER_BOTH, qk_norm="whole"),
    "olmo3": Family(
        _BIAS, _BIAS, norms=AFTER_BOTH, qk_norm="whole", sliding=lambda v: full_every(4)
    ),
    "cohere": Family(
        _BIAS,
        _BIAS,
        norm="cohere_layernorm",
        norms=("input_layernorm",),
        qk_norm="per_head",
        qk_norm_if=_key("use_qk_norm"),
        parallel_if=_always,
    ),
    "cohere2": Family(
        _BIAS,
        _BIAS,
        norm="cohere_layernorm",
        norms=("input_layernorm",),
        sliding=_pattern(4),
        parallel_if=_always,
    ),
    "stablelm": Family(
        _key("use_qkv_bias"),
        norm="layernorm",
        qk_norm="list",
        qk_norm_if=_key("qk_layernorm"),
        parallel_if=_key("use_parallel_residual"),
    ),
}


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of a Llama-like decoder."""
    family = FAMILIES[view.model_type]
    hidden, width = view.size("hidden_size"), view.size("intermediate_size")
    vocab = view.size("vocab_size")
    num_heads, num_kv_heads, head_dim = heads(view)
    with_bias = family.norm == "layernorm"
    parallel = family.parallel_if(view)
    norms = family.norms[:1] if parallel else family.norms
    qk_norm = family.qk_norm if family.qk_norm_if(view) else ""

    def build(kind: str) -> tuple[Tensors, LayerShape]:
        tensors = (
            *split_attention(
                hidden,
                num_heads,
                num_kv_heads,
                head_dim,
                family.qkv_bias(view),
                family.out_bias(view),
            ),
            *_qk_norms(qk_norm, num_heads, num_kv_heads, head_dim),
            *gated_mlp("mlp", width, hidden, family.mlp_bias(view)),
            *(t for name in norms for t in norm(name, hidden, bias=with_bias)),
        )
        window = view.optional_size("sliding_window") if kind == "sliding" else None
        return tensors, LayerShape(
            hidden,
            num_heads,
            num_kv_heads,
            head_dim,
            width,
            attention_kind=kind,
            sliding_window=window,
        )

    kinds = attention_kinds(view, family.sliding(view))
    final = (
        ()
        if family.norm == "layernorm_plain"
        else (norm_unit(f"{paths.body}.norm", hidden, with_bias),)
    )
    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab, hidden),
        *layer_units(f"{paths.body}.layers", kinds, build),
        *final,
        *head_units(paths, vocab, hidden),
    )
    facts: dict[str, Any] = {
        "norm": family.norm,
        "qk_norm": bool(qk_norm),
        "mlp": "gated",
        "activation": view.get(family.activation_key) or view.get("hidden_act"),
        "parallel_block": parallel,
        "post_norms": family.norms == AROUND_BOTH,
    }
    return Layout(units, facts)


def _qk_norms(kind: str, num_heads: int, num_kv_heads: int, head_dim: int) -> Tensors:
    if kind == "per_head":
        return (
            *norm("self_attn.q_norm", num_heads, head_dim),
            *norm("self_attn.k_norm", num_kv_heads, head_dim),
        )
    if kind == "list":
        return (
            *(
                t
                for i in range(num_heads)
                for t in norm(f"self_attn.q_layernorm.norms.{i}", head_dim)
            ),
            *(
                t
                for i in range(num_kv_heads)
                for t in norm(f"self_attn.k_layernorm.norms.{i}", head_dim)
            ),
        )
    return qk_norms(kind, num_heads, num_kv_heads, head_dim)

"""Dense decoders with Llama's order of modules: Llama and its relatives, Phi-3, GLM-4 and StarCoder2."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any

from preflight.model import LayerShape
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    all_full,
    attention_kinds,
    decoder,
    full_every,
    heads,
    linear,
    norm,
    qk_norms,
    split_attention,
    windowed_if_given,
)
from preflight.values import dataclass

Flag = Callable[[ConfigView], bool]


def never(view: ConfigView) -> bool:
    """Return that no config has it."""
    return False


def _always(view: ConfigView) -> bool:
    return True


def flag_of(name: str) -> Flag:
    """Return what reads a switch of the config."""
    return lambda view: view.flag(name)


BEFORE_BOTH = ("input_layernorm", "post_attention_layernorm")
AROUND_BOTH = (*BEFORE_BOTH, "pre_feedforward_layernorm", "post_feedforward_layernorm")
AFTER_BOTH = ("post_attention_layernorm", "post_feedforward_layernorm")
GLM4_NORMS = (*BEFORE_BOTH, "post_self_attn_layernorm", "post_mlp_layernorm")
GATED = ("gate_proj", "up_proj", "down_proj")
FUSED_GATE = ("gate_up_proj", "down_proj")


@dataclass(frozen=True)
class Family:
    """How one family differs from Llama."""

    qkv_bias: Flag = flag_of("attention_bias")
    out_bias: Flag = flag_of("attention_bias")
    mlp_bias: Flag = never
    norm: str = "rms"
    norms: tuple[str, ...] = BEFORE_BOTH
    qk_norm: str = ""
    """head (one weight of head_dim), whole (over all heads), per_head (a weight for each), or nothing."""
    qk_norm_if: Flag = _always
    sliding: Callable[[ConfigView], Callable[[int], str]] = lambda view: all_full
    parallel_if: Flag = never
    activation_key: str = "hidden_act"
    fused_qkv: bool = False
    mlp: tuple[str, ...] = GATED
    """Its linears, the one back last; without a gate there are two."""


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


FAMILIES: dict[str, Family] = {
    "llama": Family(mlp_bias=flag_of("mlp_bias")),
    "mistral": Family(never, never, sliding=windowed_if_given),
    "ministral": Family(never, never, sliding=windowed_if_given),
    "ministral3": Family(never, never, sliding=windowed_if_given),
    "granite": Family(mlp_bias=flag_of("mlp_bias")),
    "smollm3": Family(mlp_bias=flag_of("mlp_bias"), sliding=_rope_free),
    "qwen2": Family(_always, never, sliding=_last_layers),
    "qwen2_vl_text": Family(_always, never, sliding=_last_layers),
    "qwen2_5_vl_text": Family(_always, never, sliding=_last_layers),
    "qwen3": Family(qk_norm="head", sliding=_last_layers),
    "qwen3_vl_text": Family(qk_norm="head"),
    "gemma": Family(norm="gemma_rms"),
    "gemma2": Family(
        norm="gemma_rms",
        norms=AROUND_BOTH,
        sliding=_pattern(2),
        activation_key="hidden_activation",
    ),
    "gemma3_text": Family(
        norm="gemma_rms",
        norms=AROUND_BOTH,
        qk_norm="head",
        sliding=_pattern(6),
        activation_key="hidden_activation",
    ),
    "olmo": Family(norm="layernorm_plain", norms=()),
    "olmo2": Family(norms=AFTER_BOTH, qk_norm="whole"),
    "olmo3": Family(norms=AFTER_BOTH, qk_norm="whole", sliding=lambda v: full_every(4)),
    "cohere": Family(
        norm="cohere_layernorm",
        norms=("input_layernorm",),
        qk_norm="per_head",
        qk_norm_if=flag_of("use_qk_norm"),
        parallel_if=_always,
    ),
    "cohere2": Family(
        norm="cohere_layernorm",
        norms=("input_layernorm",),
        sliding=_pattern(4),
        parallel_if=_always,
    ),
    "stablelm": Family(
        flag_of("use_qkv_bias"),
        never,
        norm="layernorm",
        qk_norm="list",
        qk_norm_if=flag_of("qk_layernorm"),
        parallel_if=flag_of("use_parallel_residual"),
    ),
    "phi3": Family(sliding=windowed_if_given, fused_qkv=True, mlp=FUSED_GATE),
    "glm": Family(out_bias=never, mlp=FUSED_GATE),
    "glm4": Family(out_bias=never, norms=GLM4_NORMS, mlp=FUSED_GATE),
    "starcoder2": Family(
        *(flag_of("use_bias"),) * 3,
        norm="layernorm",
        sliding=windowed_if_given,
        mlp=("c_fc", "c_proj"),
    ),
}

MlpOf = Callable[[str], tuple[Tensors, dict[str, Any]]]
"""Kind of MLP -> its tensors, and its sizes by their names in LayerShape."""


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of a Llama-like decoder."""
    family = FAMILIES[view.model_type]
    hidden, width = view.size("hidden_size"), view.size("intermediate_size")

    def mlp_of(kind: str) -> tuple[Tensors, dict[str, Any]]:
        *ins, back = family.mlp
        bias, rows = family.mlp_bias(view), 2 * width if family.mlp == FUSED_GATE else width
        tensors = (
            *(t for name in ins for t in linear(f"mlp.{name}", rows, hidden, bias)),
            *linear(f"mlp.{back}", hidden, width, bias),
        )
        return tensors, {"intermediate_size": width}

    return lay_out_as(
        family,
        view,
        paths,
        repeat(""),
        mlp_of,
        activation=view.get(family.activation_key) or view.get("hidden_act"),
        mlp="gated" if family.mlp in (GATED, FUSED_GATE) else "plain",
    )


def lay_out_as(
    family: Family,
    view: ConfigView,
    paths: Paths,
    mlps: Iterable[str],
    mlp_of: MlpOf,
    first: Tensors = (),
    window: str = "sliding_window",
    head_bias: bool = False,
    **facts: Any,
) -> Layout:
    """Return the units of a decoder with a family's attention and norms, and in each layer an MLP of the kind that is named."""
    hidden, vocab, heads_of = view.size("hidden_size"), view.size("vocab_size"), heads(view)
    num_heads, num_kv_heads, head_dim = heads_of
    parallel = family.parallel_if(view)
    norms = family.norms[:1] if parallel else family.norms
    qk_norm = family.qk_norm if family.qk_norm_if(view) else ""

    def build(kind: tuple[str, str]) -> tuple[Tensors, LayerShape]:
        attention, mlp = kind
        of_mlp, sizes = mlp_of(mlp)
        shape = LayerShape(
            hidden,
            *heads_of,
            **sizes,
            attention_kind=attention,
            sliding_window=view.optional_size(window) if attention == "sliding" else None,
        )
        tensors = (
            *first,
            *(
                _fused_attention(shape)
                if family.fused_qkv
                else split_attention(
                    hidden, *heads_of, family.qkv_bias(view), family.out_bias(view)
                )
            ),
            *_qk_norms(qk_norm, num_heads, num_kv_heads, head_dim),
            *of_mlp,
            *(t for name in norms for t in norm(name, hidden, bias=family.norm == "layernorm")),
        )
        return tensors, shape

    kinds = zip(attention_kinds(view, family.sliding(view)), mlps, strict=False)
    return decoder(
        view,
        paths,
        vocab,
        kinds,
        build,
        head_bias=head_bias,
        norm=family.norm,
        qk_norm=bool(qk_norm),
        parallel_block=parallel,
        post_norms=len(family.norms) == len(AROUND_BOTH),
        **facts,
    )


def _fused_attention(shape: LayerShape) -> Tensors:
    """Return Phi-3's projections: the one back, then queries, keys and values in one."""
    fused = shape.query_size + 2 * shape.kv_size
    return (
        *linear("self_attn.o_proj", shape.hidden_size, shape.query_size),
        *linear("self_attn.qkv_proj", fused, shape.hidden_size),
    )


def _qk_norms(kind: str, num_heads: int, num_kv_heads: int, head_dim: int) -> Tensors:
    if kind == "per_head":
        return (
            *norm("self_attn.q_norm", num_heads, head_dim),
            *norm("self_attn.k_norm", num_kv_heads, head_dim),
        )
    if kind == "list":
        counts = (("q", num_heads), ("k", num_kv_heads))
        names = [f"self_attn.{qk}_layernorm.norms.{i}" for qk, num in counts for i in range(num)]
        return tuple(t for name in names for t in norm(name, head_dim))
    return qk_norms(kind, num_heads, num_kv_heads, head_dim)

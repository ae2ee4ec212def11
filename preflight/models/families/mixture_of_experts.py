"""Decoders whose MLP is a router and a fused stack of experts, in some layers or all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

from preflight.model import BIAS, LayerShape, ParameterTensor
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    all_full,
    attention_kinds,
    embedding_unit,
    experts,
    full_every,
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
    split_attention,
    windowed_if_given,
)
from preflight.values import dataclass

Flag = Callable[[ConfigView], bool]


def _never(view: ConfigView) -> bool:
    return False


def _bias(view: ConfigView) -> bool:
    return view.flag("attention_bias")


@dataclass(frozen=True)
class Family:
    """How one family of mixtures is put together."""

    num_experts: str = "num_experts"
    expert_width: str = "moe_intermediate_size"
    dense_width: str = "intermediate_size"
    qkv_bias: Flag = _bias
    out_bias: Flag = _bias
    qk_norm: str = ""
    """head or whole, as in split_qkv."""
    qk_norm_if: Flag = lambda view: True
    norm_bias: bool = False
    mlp: str = "mlp"
    router: str = "gate"
    shared: str = ""
    """Name of the shared expert's module."""
    shared_gate: bool = False
    is_sparse: Callable[[ConfigView], Callable[[int], bool]] = lambda view: lambda index: True
    sliding: Callable[[ConfigView], Callable[[int], str]] = lambda view: all_full
    facts: dict[str, Any] = field(default_factory=dict)


def _every_step(view: ConfigView) -> Callable[[int], bool]:
    """Qwen: every `decoder_sparse_step`-th layer, less the layers of `mlp_only_layers`."""
    dense, step = view.indexes("mlp_only_layers"), view.size("decoder_sparse_step")
    num_experts = view.count("num_experts")
    return lambda index: index not in dense and num_experts > 0 and (index + 1) % step == 0


def _after_first_dense(view: ConfigView) -> Callable[[int], bool]:
    first = view.count("first_k_dense_replace")
    return lambda index: index >= first


def _llama4_sparse(view: ConfigView) -> Callable[[int], bool]:
    if view.get("moe_layers") is not None:
        sparse = view.indexes("moe_layers")
        return lambda index: index in sparse
    step = view.size("interleave_moe_layer_step")
    return lambda index: index % step == step - 1


def _llama4_sliding(view: ConfigView) -> Callable[[int], str]:
    """Chunked attention wherever there is rotary embedding: all layers but every fourth."""
    if view.get("attention_chunk_size") is None:
        return all_full
    given = view.get("no_rope_layers")
    if isinstance(given, list) and len(given) == view.size("num_hidden_layers"):
        return lambda index: "sliding" if given[index] else "full"
    return full_every(view.optional_size("no_rope_layer_interval") or 4)


def _qwen_windowed(view: ConfigView) -> Callable[[int], str]:
    return windowed_if_given(view) if view.flag("use_sliding_window") else all_full


def _qwen2_moe_windowed(view: ConfigView) -> Callable[[int], str]:
    """Every other layer, and only below `max_window_layers` (configuration_qwen2_moe.py)."""
    if not view.flag("use_sliding_window"):
        return all_full
    last = view.count("max_window_layers")
    return lambda index: "sliding" if index % 2 == 0 and index < last else "full"


FAMILIES: dict[str, Family] = {
    "mixtral": Family(
        "num_local_experts",
        "intermediate_size",
        qkv_bias=_never,
        out_bias=_never,
        sliding=windowed_if_given,
    ),
    "granitemoe": Family(
        "num_local_experts", "intermediate_size", mlp="block_sparse_moe", router="router"
    ),
    "olmoe": Family(expert_width="intermediate_size", qk_norm="whole"),
    "phimoe": Family(
        "num_local_experts",
        "intermediate_size",
        norm_bias=True,
        router="router",
        sliding=windowed_if_given,
    ),
    "qwen2_moe": Family(
        qkv_bias=lambda view: view.flag("qkv_bias"),
        out_bias=_never,
        shared="shared_expert",
        shared_gate=True,
        is_sparse=_every_step,
        sliding=_qwen2_moe_windowed,
    ),
    "qwen3_moe": Family(qk_norm="head", is_sparse=_every_step, sliding=_qwen_windowed),
    "qwen3_vl_moe_text": Family(qk_norm="head", is_sparse=_every_step),
    "glm4_moe": Family(
        "n_routed_experts",
        out_bias=_never,
        qk_norm="head",
        qk_norm_if=lambda view: view.flag("use_qk_norm"),
        shared="shared_experts",
        is_sparse=_after_first_dense,
    ),
    "gpt_oss": Family(
        "num_local_experts",
        "intermediate_size",
        router="router",
        sliding=lambda view: full_every(2),
        facts={"transposed_experts": True, "sinks": True},
    ),
    "llama4_text": Family(
        "num_local_experts",
        "intermediate_size",
        dense_width="intermediate_size_mlp",
        mlp="feed_forward",
        router="router",
        shared="shared_expert",
        is_sparse=_llama4_sparse,
        sliding=_llama4_sliding,
        facts={"transposed_experts": True},
    ),
}


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of a mixture-of-experts decoder."""
    family = FAMILIES[view.model_type]
    hidden, vocab = view.size("hidden_size"), view.size("vocab_size")
    num_heads, num_kv_heads, head_dim = heads(view)
    qk_norm = family.qk_norm if family.qk_norm_if(view) else ""
    sinks = other("self_attn.sinks", num_heads) if family.facts.get("sinks") else ()
    window_key = "attention_chunk_size" if view.model_type == "llama4_text" else "sliding_window"

    def build(kind: tuple[str, str]) -> tuple[Tensors, LayerShape]:
        attention, mlp = kind
        shape = LayerShape(
            hidden,
            num_heads,
            num_kv_heads,
            head_dim,
            view.size(family.dense_width) if mlp == "dense" else 0,
            attention_kind=attention,
            sliding_window=view.optional_size(window_key) if attention == "sliding" else None,
            **(_expert_sizes(view, family) if mlp == "experts" else {}),
        )
        tensors = (
            *sinks,
            *split_attention(
                hidden,
                num_heads,
                num_kv_heads,
                head_dim,
                family.qkv_bias(view),
                family.out_bias(view),
            ),
            *qk_norms(qk_norm, num_heads, num_kv_heads, head_dim),
            *(
                gated_mlp(family.mlp, shape.intermediate_size, hidden)
                if mlp == "dense"
                else _expert_tensors(view.model_type, family, shape)
            ),
            *norm("input_layernorm", hidden, bias=family.norm_bias),
            *norm("post_attention_layernorm", hidden, bias=family.norm_bias),
        )
        return tensors, shape

    sparse = family.is_sparse(view)
    kinds = [
        (attention, "experts" if sparse(index) else "dense")
        for index, attention in enumerate(attention_kinds(view, family.sliding(view)))
    ]
    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab, hidden),
        *layer_units(f"{paths.body}.layers", kinds, build),
        norm_unit(f"{paths.body}.norm", hidden, family.norm_bias),
        *head_units(paths, vocab, hidden, view.flag("lm_head_bias")),
    )
    facts = {
        "norm": "layernorm" if family.norm_bias else "rms",
        "qk_norm": bool(qk_norm),
        "mlp": "gated",
        "activation": view.get("hidden_act"),
        "parallel_block": False,
        "post_norms": False,
        **family.facts,
    }
    return Layout(units, facts)


def _expert_sizes(view: ConfigView, family: Family) -> dict[str, Any]:
    width = view.size(family.expert_width)
    shared = 0
    if view.model_type == "qwen2_moe":
        shared = view.size("shared_expert_intermediate_size")
    elif view.model_type == "glm4_moe":
        shared = width * view.count("n_shared_experts")
    elif family.shared:
        shared = width
    return {
        "num_experts": view.size(family.num_experts),
        "experts_per_token": view.size("num_experts_per_tok"),
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": shared,
    }


FP32_ROUTERS = frozenset({"glm4_moe"})
"""`gate.weight` in `_keep_in_fp32_modules_strict` (modeling_glm4_moe.py, 5.24.0)."""


def _expert_tensors(model_type: str, family: Family, shape: LayerShape) -> Tensors:
    num, hidden, width = shape.num_experts, shape.hidden_size, shape.moe_intermediate_size
    shared = shape.shared_expert_intermediate_size
    name = family.mlp
    # The routers of Llama 4 and Phi-MoE are subclasses of Linear; the others are bare parameters.
    if model_type in ("llama4_text", "phimoe"):
        gate: Tensors = linear(f"{name}.{family.router}", num, hidden, is_of_subclass=True)
    else:
        gate = router(f"{name}.{family.router}.weight", num, hidden, model_type in FP32_ROUTERS)
    if family.facts.get("transposed_experts"):
        stack: Tensors = (
            *experts(f"{name}.experts.gate_up_proj", num, hidden, 2 * width),
            *experts(f"{name}.experts.down_proj", num, width, hidden),
        )
    else:
        stack = (
            *experts(f"{name}.experts.gate_up_proj", num, 2 * width, hidden),
            *experts(f"{name}.experts.down_proj", num, hidden, width),
        )
    if model_type == "gpt_oss":
        gate = (*gate, *other(f"{name}.{family.router}.bias", num))
        stack = (
            *stack,
            ParameterTensor(f"{name}.experts.gate_up_proj_bias", (num, 2 * width), BIAS),
            ParameterTensor(f"{name}.experts.down_proj_bias", (num, hidden), BIAS),
        )
    return (
        *gate,
        *stack,
        *(gated_mlp(f"{name}.{family.shared}", shared, hidden) if shared else ()),
        *(linear(f"{name}.{family.shared}_gate", 1, hidden) if family.shared_gate else ()),
    )

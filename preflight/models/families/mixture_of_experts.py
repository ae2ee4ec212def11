"""Decoders whose MLP is a router and a fused stack of experts, in some layers or all."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from preflight.model import BIAS, ParameterTensor
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    all_full,
    expert_sizes,
    expert_stacks,
    full_every,
    gated_mlp,
    linear,
    other,
    router,
    windowed_if_given,
)
from preflight.models.families.llama_like import Family, flag_of, lay_out_as, never
from preflight.values import dataclass


@dataclass(frozen=True)
class Mixture:
    """How one family of mixtures is put together: Llama-like but for its experts."""

    like: Family
    num_experts: str = "num_experts"
    expert_width: str = "moe_intermediate_size"
    dense_width: str = "intermediate_size"
    mlp: str = "mlp"
    router: str = "gate"
    shared: str = ""
    """Name of the shared expert's module."""
    is_sparse: Callable[[ConfigView], Callable[[int], bool]] = lambda view: lambda index: True
    is_transposed: bool = False
    """Whether stacks of experts store (in, out)."""


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


FAMILIES: dict[str, Mixture] = {
    "mixtral": Mixture(
        Family(never, never, sliding=windowed_if_given), "num_local_experts", "intermediate_size"
    ),
    "granitemoe": Mixture(
        Family(),
        "num_local_experts",
        "intermediate_size",
        mlp="block_sparse_moe",
        router="router",
    ),
    "olmoe": Mixture(Family(qk_norm="whole"), expert_width="intermediate_size"),
    "phimoe": Mixture(
        Family(norm="layernorm", sliding=windowed_if_given),
        "num_local_experts",
        "intermediate_size",
        router="router",
    ),
    "qwen2_moe": Mixture(
        Family(flag_of("qkv_bias"), never, sliding=_qwen2_moe_windowed),
        shared="shared_expert",
        is_sparse=_every_step,
    ),
    "qwen3_moe": Mixture(
        Family(qk_norm="head", sliding=_qwen_windowed),
        is_sparse=_every_step,
    ),
    "qwen3_vl_moe_text": Mixture(Family(qk_norm="head"), is_sparse=_every_step),
    "glm4_moe": Mixture(
        Family(out_bias=never, qk_norm="head", qk_norm_if=flag_of("use_qk_norm")),
        "n_routed_experts",
        shared="shared_experts",
        is_sparse=_after_first_dense,
    ),
    "gpt_oss": Mixture(
        Family(sliding=lambda view: full_every(2)),
        "num_local_experts",
        "intermediate_size",
        router="router",
        is_transposed=True,
    ),
    "llama4_text": Mixture(
        Family(sliding=_llama4_sliding),
        "num_local_experts",
        "intermediate_size",
        dense_width="intermediate_size_mlp",
        mlp="feed_forward",
        router="router",
        shared="shared_expert",
        is_sparse=_llama4_sparse,
        is_transposed=True,
    ),
}


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of a mixture-of-experts decoder."""
    mixture, hidden = FAMILIES[view.model_type], view.size("hidden_size")

    def mlp_of(kind: str) -> tuple[Tensors, dict[str, Any]]:
        if kind == "experts":
            sizes = _expert_sizes(view, mixture)
            return _expert_tensors(view.model_type, mixture, hidden, sizes), sizes
        width = view.size(mixture.dense_width)
        return gated_mlp(mixture.mlp, width, hidden), {"intermediate_size": width}

    sparse = mixture.is_sparse(view)
    sinks: dict[str, Any] = {}
    if view.model_type == "gpt_oss":
        num_heads = view.size("num_attention_heads")
        sinks = {"first": other("self_attn.sinks", num_heads), "sinks": True}
    return lay_out_as(
        mixture.like,
        view,
        paths,
        ("experts" if sparse(index) else "dense" for index in count()),
        mlp_of,
        window="attention_chunk_size" if view.model_type == "llama4_text" else "sliding_window",
        head_bias=view.flag("lm_head_bias"),
        transposed_experts=mixture.is_transposed,
        **sinks,
    )


def _expert_sizes(view: ConfigView, mixture: Mixture) -> dict[str, Any]:
    width = view.size(mixture.expert_width)
    shared = width if mixture.shared else 0
    if view.model_type == "qwen2_moe":
        shared = view.size("shared_expert_intermediate_size")
    elif view.model_type == "glm4_moe":
        shared = width * view.count("n_shared_experts")
    return expert_sizes(view, mixture.num_experts, width, shared)


FP32_ROUTERS = frozenset({"glm4_moe"})
"""`gate.weight` in `_keep_in_fp32_modules_strict` (modeling_glm4_moe.py, 5.24.0)."""


def _expert_tensors(
    model_type: str, mixture: Mixture, hidden: int, sizes: dict[str, Any]
) -> Tensors:
    num, width = sizes["num_experts"], sizes["moe_intermediate_size"]
    shared, name = sizes["shared_expert_intermediate_size"], mixture.mlp
    # The routers of Llama 4 and Phi-MoE are subclasses of Linear; the others are bare parameters.
    if model_type in ("llama4_text", "phimoe"):
        gate: Tensors = linear(f"{name}.{mixture.router}", num, hidden, is_of_subclass=True)
    else:
        gate = router(f"{name}.{mixture.router}.weight", num, hidden, model_type in FP32_ROUTERS)
    stacks = expert_stacks(f"{name}.experts", num, width, hidden, mixture.is_transposed)
    if model_type == "gpt_oss":
        gate = (*gate, *other(f"{name}.{mixture.router}.bias", num))
        stacks = (
            *stacks,
            ParameterTensor(f"{name}.experts.gate_up_proj_bias", (num, 2 * width), BIAS),
            ParameterTensor(f"{name}.experts.down_proj_bias", (num, hidden), BIAS),
        )
    return (
        *gate,
        *stacks,
        *(gated_mlp(f"{name}.{mixture.shared}", shared, hidden) if shared else ()),
        *(linear("mlp.shared_expert_gate", 1, hidden) if model_type == "qwen2_moe" else ()),
    )

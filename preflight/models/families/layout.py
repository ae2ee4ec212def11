"""The pieces that every family's layout is put together from.

Keys of `ModelSpec.facts`, where they hold:

    norm            rms, gemma_rms (fp32, weight + 1), layernorm, layernorm_plain (no weight), cohere_layernorm
    qk_norm         True where queries and keys are normalised
    mlp             gated or plain
    activation      the config's own name of it
    parallel_block  True where attention and MLP read the same input
    two_norms       True where a parallel block has a norm for each
    post_norms      True where sublayer outputs are normalised as well as their inputs
    conv1d          True where linears store (in, out)
    transposed_experts  True where expert stacks store (experts, in, out)
    mla             {q_lora_rank, kv_lora_rank, qk_rope_head_dim}
    indexer         {heads, dim, topk} of a sparse attention
    layout          none: the parameters are counted, not laid out; table: a table says them
    attention       what the class runs where nobody names another, of a type that a table lays out
    unlike_traced   what its config says otherwise than the models whose layers were traced
    adapts_experts  True where PEFT's all-linear reaches its fused experts
    buffers         elements of the tables that modules register, by bytes of an element or `load`, of such a type
    widths          what layers are counted in beside the usual, by its expression in config fields
    traced_tied     True where the traces of its layers had a head that is tied
    traced_whole    True where an adapter on its layers is not what was counted
    both_stacks     True of an encoder with a decoder; hears where it takes windows of sound
    costs           the file of its costs, where that has another name than its type
    headless        the class, where it has no language model's head
    top_model_type  the model_type of the whole config
    whole           True of a model around a decoder, that sees or hears
    library_defaults  sizes that the config leaves to transformers
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import field
from typing import Any, TypeVar

from preflight.model import (
    BIAS,
    EMBEDDING,
    EXPERTS,
    LINEAR,
    NORM,
    OTHER,
    LayerShape,
    ModelUnit,
    ParameterTensor,
)
from preflight.models.families.config_view import ConfigView
from preflight.values import dataclass

Tensors = tuple[ParameterTensor, ...]


@dataclass(frozen=True)
class Layout:
    """A decoder's units, and the facts that its tensors do not show."""

    units: tuple[ModelUnit, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    """Width and depth, where the config may call them otherwise than `hidden_size` and `num_hidden_layers`."""


SIDE = 2048
"""Rows and columns of the pieces in which parameters stand that nobody listed. One tensor of all would be gathered,
cast and saved whole wherever a library does that tensor by tensor."""


def counted_units(name: str, num_params: int) -> tuple[ModelUnit, ...]:
    """Return parameters that are counted and not laid out, in pieces of no real tensor's shape."""
    pieces, rest = divmod(num_params, SIDE * SIDE)
    shapes = (((SIDE, SIDE), pieces), ((rest, 1), 1))
    return tuple(
        ModelUnit(name, "other", (ParameterTensor("(some parameters)", shape, OTHER),), count)
        for shape, count in shapes
        if count and shape[0]
    )


@dataclass(frozen=True)
class Paths:
    """Where a decoder's modules hang: `model`, or `model.language_model` inside a vision-language model."""

    body: str = "model"
    head: str = "lm_head"
    tied: bool = False


def linear(
    name: str, num_out: int, num_in: int, bias: bool = False, is_of_subclass: bool = False
) -> Tensors:
    """Return a torch Linear's weight, and its bias where it has one."""
    weight = ParameterTensor(
        f"{name}.weight", (num_out, num_in), LINEAR, is_of_subclass=is_of_subclass
    )
    return (weight, ParameterTensor(f"{name}.bias", (num_out,), BIAS)) if bias else (weight,)


def conv1d(name: str, num_out: int, num_in: int) -> Tensors:
    """Return the weight and bias of GPT-2's Conv1D, which stores (in, out)."""
    return (
        ParameterTensor(f"{name}.weight", (num_in, num_out), LINEAR),
        ParameterTensor(f"{name}.bias", (num_out,), BIAS),
    )


def norm(name: str, *shape: int, bias: bool = False) -> Tensors:
    """Return a norm's weight, and its bias where it has one."""
    weight = ParameterTensor(f"{name}.weight", shape, NORM)
    return (weight, ParameterTensor(f"{name}.bias", shape, NORM)) if bias else (weight,)


def experts(name: str, *shape: int) -> Tensors:
    """Return one fused stack of expert weights."""
    return (ParameterTensor(name, shape, EXPERTS),)


def other(name: str, *shape: int) -> Tensors:
    """Return a parameter of no common kind: a router, a gate, a sink."""
    return (ParameterTensor(name, shape, OTHER),)


def router(name: str, num_experts: int, hidden: int, stays_fp32: bool) -> Tensors:
    """Return a router that is a bare parameter."""
    return (ParameterTensor(name, (num_experts, hidden), OTHER, stays_fp32=stays_fp32),)


def embedding_unit(path: str, rows: int, columns: int) -> ModelUnit:
    """Return an embedding table."""
    return ModelUnit(path, "embedding", (ParameterTensor("weight", (rows, columns), EMBEDDING),))


def norm_unit(path: str, size: int, bias: bool = False) -> ModelUnit:
    """Return the norm after the last layer."""
    tensors = [ParameterTensor("weight", (size,), NORM)]
    if bias:
        tensors.append(ParameterTensor("bias", (size,), NORM))
    return ModelUnit(path, "final_norm", tuple(tensors))


def head_units(paths: Paths, vocab_size: int, size: int, bias: bool = False) -> Iterable[ModelUnit]:
    """Return the lm_head: nothing when tied, but for a bias, which is never tied."""
    tensors: list[ParameterTensor] = []
    if not paths.tied:
        tensors.append(ParameterTensor("weight", (vocab_size, size), LINEAR))
    if bias:
        tensors.append(ParameterTensor("bias", (vocab_size,), BIAS))
    if tensors:
        yield ModelUnit(paths.head, "lm_head", tuple(tensors))


Kind = TypeVar("Kind", bound=Hashable)


def layer_units(
    path: str, kinds: Iterable[Kind], build: Callable[[Kind], tuple[Tensors, LayerShape]]
) -> tuple[ModelUnit, ...]:
    """Return one unit per layer kind, in order of appearance, with its count."""
    places: dict[Kind, list[int]] = {}
    for index, kind in enumerate(kinds):
        places.setdefault(kind, []).append(index)
    units = []
    for kind, own in places.items():
        tensors, shape = build(kind)
        name = f"{path}.*" if len(places) == 1 else f"{path}.* ({_said(kind)})"
        units.append(ModelUnit(name, "layer", tensors, len(own), shape, tuple(own)))
    return tuple(units)


def _said(kind: object) -> str:
    words = kind if isinstance(kind, tuple) else (kind,)
    return ", ".join(str(word) for word in words if word)


def decoder(
    view: ConfigView,
    paths: Paths,
    vocab: int,
    kinds: Iterable[Kind],
    build: Callable[[Kind], tuple[Tensors, LayerShape]],
    extra_rows: int = 0,
    head_bias: bool = False,
    **facts: Any,
) -> Layout:
    """Return Llama's modules in their order: a table of words, layers, a norm, a head; with Llama's facts but for those given."""
    hidden = view.size("hidden_size")
    norm = facts.get("norm", "rms")
    last = (norm_unit(f"{paths.body}.norm", hidden, norm == "layernorm"),)
    units = (
        embedding_unit(f"{paths.body}.embed_tokens", vocab + extra_rows, hidden),
        *layer_units(f"{paths.body}.layers", kinds, build),
        *(() if norm == "layernorm_plain" else last),
        *head_units(paths, vocab, hidden, head_bias),
    )
    usual = {"norm": norm, "mlp": "gated", "activation": view.get("hidden_act")}
    return Layout(units, {**usual, **facts})


def attention_kinds(view: ConfigView, by_default: Callable[[int], str]) -> tuple[str, ...]:
    """Return `full` or `sliding` per layer: from `layer_types`, else by the family's rule."""
    num_layers = view.size("num_hidden_layers")
    given = view.strings("layer_types")
    if given is None:
        return tuple(by_default(index) for index in range(num_layers))
    if len(given) != num_layers:
        view.complain(
            "layer_types",
            f"{view.section}layer_types names {len(given)} layers and num_hidden_layers is {num_layers}",
        )
        return ("full",) * num_layers
    return tuple(_LAYER_TYPES.get(kind, "full") for kind in given)


_LAYER_TYPES = {
    "sliding_attention": "sliding",
    "chunked_attention": "sliding",
    "linear_attention": "linear",
}


def all_full(index: int) -> str:
    """Return `full` for every layer."""
    return "full"


def windowed_if_given(view: ConfigView) -> Callable[[int], str]:
    """Return the rule "sliding, where the config has a window"."""
    return (lambda index: "sliding") if view.get("sliding_window") else all_full


def full_every(period: int) -> Callable[[int], str]:
    """Return the rule "sliding, but every period-th layer is full"."""
    return lambda index: "sliding" if (index + 1) % period else "full"


def heads(view: ConfigView) -> tuple[int, int, int]:
    """Return query heads, key/value heads and head size, with the defaults most families share."""
    hidden = view.size("hidden_size")
    num_heads = view.size("num_attention_heads")
    num_kv_heads = view.optional_size("num_key_value_heads") or num_heads
    head_dim = view.optional_size("head_dim")
    if head_dim is None:
        if hidden % num_heads:
            view.complain(
                "num_attention_heads",
                f"{view.section}hidden_size {hidden} is not a multiple of num_attention_heads {num_heads}",
            )
        head_dim = max(1, hidden // num_heads)
    if num_heads % num_kv_heads:
        view.complain(
            "num_key_value_heads",
            f"{view.section}num_attention_heads {num_heads} is not a multiple of num_key_value_heads {num_kv_heads}",
        )
    return num_heads, num_kv_heads, head_dim


def gated_mlp(name: str, width: int, hidden: int, bias: bool = False) -> Tensors:
    """Return gate, up and down projections."""
    return (
        *linear(f"{name}.gate_proj", width, hidden, bias),
        *linear(f"{name}.up_proj", width, hidden, bias),
        *linear(f"{name}.down_proj", hidden, width, bias),
    )


def expert_stacks(
    name: str, num: int, width: int, hidden: int, is_transposed: bool = False
) -> Tensors:
    """Return the two fused stacks of a layer's experts, gate and up in one."""
    up, down = (2 * width, hidden), (hidden, width)
    return (
        *experts(f"{name}.gate_up_proj", num, *(up[::-1] if is_transposed else up)),
        *experts(f"{name}.down_proj", num, *(down[::-1] if is_transposed else down)),
    )


def expert_sizes(view: ConfigView, num_key: str, width: int, shared: int) -> dict[str, Any]:
    """Return the sizes of a layer that has only experts, by their names in LayerShape."""
    return {
        "intermediate_size": 0,
        "num_experts": view.size(num_key),
        "experts_per_token": view.size("num_experts_per_tok"),
        "moe_intermediate_size": width,
        "shared_expert_intermediate_size": shared,
    }


def split_attention(
    hidden: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    qkv_bias: bool = False,
    out_bias: bool = False,
    name: str = "self_attn",
    out_name: str = "o_proj",
) -> Tensors:
    """Return query, key, value and output projections."""
    return (
        *linear(f"{name}.q_proj", num_heads * head_dim, hidden, qkv_bias),
        *linear(f"{name}.k_proj", num_kv_heads * head_dim, hidden, qkv_bias),
        *linear(f"{name}.v_proj", num_kv_heads * head_dim, hidden, qkv_bias),
        *linear(f"{name}.{out_name}", hidden, num_heads * head_dim, out_bias),
    )


def qk_norms(kind: str, num_heads: int, num_kv_heads: int, head_dim: int) -> Tensors:
    """Return norms of queries and keys: one weight for every head (`head`), or over all of them (`whole`)."""
    if kind == "head":
        return (*norm("self_attn.q_norm", head_dim), *norm("self_attn.k_norm", head_dim))
    if kind == "whole":
        return (
            *norm("self_attn.q_norm", num_heads * head_dim),
            *norm("self_attn.k_norm", num_kv_heads * head_dim),
        )
    return ()

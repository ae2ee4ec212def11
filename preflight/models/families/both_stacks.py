"""Encoders with a decoder beside them: T5 and its kin, whose layers run one stack after the other.

The layers of both stacks are the model's layers, the encoder's first. A stack's first layer has the distances that the
others are handed (models/t5/modeling_t5.py T5Stack, 4.31 to 5.24); UMT5's layers have distances of their own
(models/umt5/modeling_umt5.py, 4.31 to 5.24).
"""

from __future__ import annotations

from preflight.model import EMBEDDING, LayerShape, ModelUnit, ParameterTensor
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    embedding_unit,
    head_units,
    linear,
    norm,
    norm_unit,
)
from preflight.values import replace

GATED = "gated-"
GELU_NEW = "gated-gelu"
TRACED = (GELU_NEW, "relu")
"""The feed-forward layers whose costs were derived: T5 1.1's, and the first T5's."""
ENCODER, DECODER = "encoder", "decoder"
FIRST = ", first"
"""End of the kind of layer that has the distances of its stack."""


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of both stacks."""
    hidden, vocab = view.size("d_model"), view.size("vocab_size")
    num_encoder = view.size("num_layers")
    num_decoder = view.optional_size("num_decoder_layers") or num_encoder
    feeds = str(view.get("feed_forward_proj"))
    units = (
        embedding_unit("shared", vocab, hidden),
        *_stack(view, ENCODER, num_encoder, 0),
        norm_unit("encoder.final_layer_norm", hidden),
        *_stack(view, DECODER, num_decoder, num_encoder),
        norm_unit("decoder.final_layer_norm", hidden),
        *head_units(paths, vocab, hidden),
    )
    facts = {
        "layout": "table",
        "attention": "sdpa",
        "both_stacks": True,
        "traced_tied": not feeds.startswith(GATED),
        "costs": "t5" if feeds.startswith(GATED) else "t5_relu",
        "activation": feeds.removeprefix(GATED),
        "unlike_traced": _unlike_traced(view, paths.tied),
    }
    return Layout(units, facts, (hidden, num_encoder + num_decoder))


def _unlike_traced(view: ConfigView, tied: bool) -> tuple[str, ...]:
    """Return what of a config no traced model had."""
    feeds = str(view.get("feed_forward_proj"))
    own = ("every layer's own distances",) if view.model_type == "umt5" else ()
    still = () if view.get("dropout_rate") else ("dropout_rate=0.0",)
    head = ("a head of its own",) if not tied and not feeds.startswith(GATED) else ()
    return (*own, *still, *head, *(() if feeds in TRACED else (f"feed_forward_proj={feeds}",)))


def _stack(view: ConfigView, name: str, depth: int, begin: int) -> tuple[ModelUnit, ...]:
    """Return the kinds of layers of one stack, whose first is the model's layer number `begin`."""
    has_own = view.model_type == "umt5"
    first, others = (_layer(view, name, has_distances) for has_distances in (True, has_own))
    heads, sizes = view.size("num_heads"), (view.size("d_kv"), view.size("d_ff"))
    shape = LayerShape(view.size("d_model"), heads, heads, *sizes, kind=name)
    places = tuple(range(begin, begin + depth))
    if has_own:
        return (ModelUnit(f"{name}.block.*", "layer", others, depth, shape, places),)
    handing = replace(shape, kind=name + FIRST)
    units = [ModelUnit(f"{name}.block.0", "layer", first, 1, handing, places[:1])]
    if depth > 1:
        rest = places[1:]
        units.append(ModelUnit(f"{name}.block.*", "layer", others, depth - 1, shape, rest))
    return tuple(units)


def _layer(view: ConfigView, name: str, has_distances: bool) -> Tensors:
    hidden, width = view.size("d_model"), view.size("d_ff")
    inner, num_heads = view.size("num_heads") * view.size("d_kv"), view.size("num_heads")
    rows = view.size("relative_attention_num_buckets")

    def attention(path: str) -> Tensors:
        return (
            *(t for part in "qkv" for t in linear(f"{path}.{part}", inner, hidden)),
            *linear(f"{path}.o", hidden, inner),
        )

    place, behind = "layer.0.SelfAttention", 2 if name == DECODER else 1
    distances: Tensors = ()
    if has_distances:
        table = f"{place}.relative_attention_bias.weight"
        distances = (ParameterTensor(table, (rows, num_heads), EMBEDDING),)
    cross: Tensors = ()
    if name == DECODER:
        cross = (*attention("layer.1.EncDecAttention"), *norm("layer.1.layer_norm", hidden))
    feed = f"layer.{behind}.DenseReluDense"
    is_gated = str(view.get("feed_forward_proj")).startswith(GATED)
    inputs = ("wi_0", "wi_1") if is_gated else ("wi",)
    return (
        *attention(place),
        *distances,
        *norm("layer.0.layer_norm", hidden),
        *cross,
        *(t for part in inputs for t in linear(f"{feed}.{part}", width, hidden)),
        *linear(f"{feed}.wo", hidden, width),
        *norm(f"layer.{behind}.layer_norm", hidden),
    )

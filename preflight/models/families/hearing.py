"""Whisper: two convolutions over a window of sound, an encoder of it, and a decoder that writes what was said.

models/whisper/modeling_whisper.py, 4.57 and 5.24: every window has as many frames as the encoder has positions, whatever was
said; keys have no bias, positions of the encoder are sines that never train.
"""

from __future__ import annotations

from preflight.model import BIAS, EMBEDDING, OTHER, LayerShape, ModelUnit, ParameterTensor
from preflight.models.families.both_stacks import DECODER, ENCODER
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

WINDOW = 3
"""Frames that a convolution looks at (WhisperEncoder.__init__)."""


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of the convolutions and of both stacks."""
    hidden, vocab, mels = view.size("d_model"), view.size("vocab_size"), view.size("num_mel_bins")
    depths = view.size("encoder_layers"), view.size("decoder_layers")
    units = (
        ModelUnit("model.encoder", "other", (*_conv(1, hidden, mels), *_conv(2, hidden, hidden))),
        _positions(ENCODER, view.size("max_source_positions"), hidden, trains=False),
        _stack(view, ENCODER, depths[0], 0),
        norm_unit("model.encoder.layer_norm", hidden, bias=True),
        embedding_unit("model.decoder.embed_tokens", vocab, hidden),
        _positions(DECODER, view.size("max_target_positions"), hidden, trains=True),
        _stack(view, DECODER, depths[1], depths[0]),
        norm_unit("model.decoder.layer_norm", hidden, bias=True),
        *head_units(Paths(head="proj_out", tied=paths.tied), vocab, hidden),
    )
    facts = {
        "layout": "table",
        "attention": "sdpa",
        "both_stacks": True,
        "hears": True,
        "costs": "whisper_both",
        "traced_tied": True,
        "activation": view.get("activation_function"),
        "widths": {"mel": mels, "conv1": WINDOW * mels * hidden, "conv2": WINDOW * hidden * hidden},
        "unlike_traced": _unlike_traced(view, paths),
    }
    return Layout(units, facts, (hidden, sum(depths)))


def _unlike_traced(view: ConfigView, paths: Paths) -> tuple[str, ...]:
    """Return what of a config no traced model had."""
    drops = (
        "dropout",
        "attention_dropout",
        "activation_dropout",
        "encoder_layerdrop",
        "decoder_layerdrop",
    )
    found = [f"{name}={view.get(name)}" for name in drops if view.get(name)]
    if view.get("activation_function") != "gelu":
        found.append(f"activation_function={view.get('activation_function')}")
    if view.get("encoder_attention_heads") != view.get("decoder_attention_heads"):
        found.append("stacks of other numbers of heads")
    return (*found, *(() if paths.tied else ("a head of its own",)))


def _conv(number: int, size: int, channels: int) -> Tensors:
    return (
        ParameterTensor(f"conv{number}.weight", (size, channels, WINDOW), OTHER),
        ParameterTensor(f"conv{number}.bias", (size,), BIAS),
    )


def _positions(stack: str, rows: int, hidden: int, trains: bool) -> ModelUnit:
    weight = ParameterTensor("weight", (rows, hidden), EMBEDDING, gets_gradient=trains)
    return ModelUnit(
        f"model.{stack}.embed_positions", "embedding" if trains else "other", (weight,)
    )


def _stack(view: ConfigView, name: str, depth: int, begin: int) -> ModelUnit:
    """Return the layers of one stack, whose first is the model's layer number `begin`."""
    hidden, heads = view.size("d_model"), view.size(f"{name}_attention_heads")
    width = view.size(f"{name}_ffn_dim")
    shape = LayerShape(hidden, heads, heads, max(1, hidden // heads), width, kind=name)

    def attention(path: str) -> Tensors:
        return (
            *linear(f"{path}.k_proj", hidden, hidden),
            *(t for part in ("v", "q", "out") for t in linear(f"{path}.{part}_proj", hidden, hidden, True)),
            *norm(f"{path}_layer_norm", hidden, bias=True),
        )  # fmt: skip

    tensors = (
        *attention("self_attn"),
        *(attention("encoder_attn") if name == DECODER else ()),
        *linear("fc1", width, hidden, True),
        *linear("fc2", hidden, width, True),
        *norm("final_layer_norm", hidden, bias=True),
    )
    places = tuple(range(begin, begin + depth))
    return ModelUnit(f"model.{name}.layers.*", "layer", tensors, depth, shape, places)

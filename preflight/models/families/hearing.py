"""Whisper: two convolutions over a window of sound, an encoder of it, and a decoder that writes what was said.

models/whisper/modeling_whisper.py, 4.57 and 5.24: every window has as many frames as the encoder has positions, whatever was
said; keys have no bias, positions of the encoder are sines that never train.
"""

from __future__ import annotations

from preflight.model import BIAS, OTHER, ModelUnit, ParameterTensor
from preflight.models.families.bart_like import positions_unit, stack_unit, unlike_traced
from preflight.models.families.both_stacks import DECODER, ENCODER
from preflight.models.families.config_view import ConfigView
from preflight.models.families.layout import (
    Layout,
    Paths,
    Tensors,
    embedding_unit,
    head_units,
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
        positions_unit(ENCODER, view.size("max_source_positions"), hidden, trains=False),
        stack_unit(view, ENCODER, depths[0], 0, keys_have_bias=False),
        norm_unit("model.encoder.layer_norm", hidden, bias=True),
        embedding_unit("model.decoder.embed_tokens", vocab, hidden),
        positions_unit(DECODER, view.size("max_target_positions"), hidden, trains=True),
        stack_unit(view, DECODER, depths[1], depths[0], keys_have_bias=False),
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
    drops = ("dropout", "attention_dropout", "activation_dropout")
    found = [f"{name}={view.get(name)}" for name in drops if view.get(name)]
    return (*found, *unlike_traced(view, "gelu"), *(() if paths.tied else ("a head of its own",)))


def _conv(number: int, size: int, channels: int) -> Tensors:
    return (
        ParameterTensor(f"conv{number}.weight", (size, channels, WINDOW), OTHER),
        ParameterTensor(f"conv{number}.bias", (size,), BIAS),
    )

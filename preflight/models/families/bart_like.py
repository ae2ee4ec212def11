"""BART and its kin: an encoder and a decoder of the same layers, one table of words for both, and positions in each stack.

The types differ in where norms stand, in whether positions train, and in what their layers drop out and activate with
(models/bart, mbart, pegasus, marian, m2m_100 and blenderbot/modeling_*.py, 5.24.0); Whisper's layers are the same (hearing.py).
"""

from __future__ import annotations

from preflight.model import EMBEDDING, LayerShape, ModelUnit, ParameterTensor
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
from preflight.values import dataclass

BOTH, ACTIVE = "_both", "_active"
"""Ends of the names of costs: of a type with both of its stacks, where that of its decoder alone has a table, and of one that
drops out of what it activates."""


@dataclass(frozen=True)
class Kind:
    """What tells one of these types from another."""

    activation: str
    """What its layers were traced with."""
    padded_positions: int | None = 0
    """Rows of its tables of positions that no token has; None where positions are sines without a parameter."""
    learns_positions: bool = True
    norms_embedding: bool = False
    norms_last: bool = False
    """Whether a stack ends in a norm: its layers have theirs in front."""


KINDS = {
    "bart": Kind("gelu", 2, norms_embedding=True),
    "mbart": Kind("gelu", 2, norms_embedding=True, norms_last=True),
    "pegasus": Kind("relu", learns_positions=False, norms_last=True),
    "marian": Kind("swish", learns_positions=False),
    "m2m_100": Kind("relu", None, norms_last=True),
}


def lay_out(view: ConfigView, paths: Paths) -> Layout:
    """Return the units of both stacks."""
    kind = KINDS[view.model_type]
    hidden, vocab = view.size("d_model"), view.size("vocab_size")
    depths = view.size("encoder_layers"), view.size("decoder_layers")
    units = [embedding_unit("model.shared", vocab, hidden)]
    for stack, depth, begin in ((ENCODER, depths[0], 0), (DECODER, depths[1], depths[0])):
        path = f"model.{stack}"
        if kind.padded_positions is not None:
            rows = view.size("max_position_embeddings") + kind.padded_positions
            units.append(positions_unit(stack, rows, hidden, kind.learns_positions))
        if kind.norms_embedding:
            units.append(norm_unit(f"{path}.layernorm_embedding", hidden, bias=True))
        units.append(stack_unit(view, stack, depth, begin))
        if kind.norms_last:
            units.append(norm_unit(f"{path}.layer_norm", hidden, bias=True))
    active = ACTIVE if view.get("activation_dropout") else ""
    facts = {
        "layout": "table",
        "attention": "sdpa",
        "both_stacks": True,
        "costs": f"{view.model_type}{BOTH}{active}",
        "traced_tied": True,
        "traced_whole": True,
        "activation": view.get("activation_function"),
        "unlike_traced": _unlike_traced(view, paths, kind),
    }
    return Layout((*units, *head_units(paths, vocab, hidden)), facts, (hidden, sum(depths)))


def _unlike_traced(view: ConfigView, paths: Paths, kind: Kind) -> tuple[str, ...]:
    """Return what of a config no traced model had; attention drops out within its kernel."""
    still = () if view.get("dropout") else ("dropout=0.0",)
    return (
        *still,
        *unlike_traced(view, kind.activation),
        *(() if paths.tied else ("a head of its own",)),
    )


def unlike_traced(view: ConfigView, activation: str) -> tuple[str, ...]:
    """Return what of both stacks no traced model had; layers that a step leaves out take most where it leaves out none."""
    found = []
    if view.get("activation_function") != activation:
        found.append(f"activation_function={view.get('activation_function')}")
    if view.get("encoder_attention_heads") != view.get("decoder_attention_heads"):
        found.append("stacks of other numbers of heads")
    return tuple(found)


def positions_unit(stack: str, rows: int, hidden: int, trains: bool) -> ModelUnit:
    """Return the table of positions of one stack."""
    weight = ParameterTensor("weight", (rows, hidden), EMBEDDING, gets_gradient=trains)
    return ModelUnit(
        f"model.{stack}.embed_positions", "embedding" if trains else "other", (weight,)
    )


def stack_unit(
    view: ConfigView, name: str, depth: int, begin: int, keys_have_bias: bool = True
) -> ModelUnit:
    """Return the layers of one stack, whose first is the model's layer number `begin`."""
    hidden, heads = view.size("d_model"), view.size(f"{name}_attention_heads")
    width = view.size(f"{name}_ffn_dim")
    shape = LayerShape(hidden, heads, heads, max(1, hidden // heads), width, kind=name)

    def attention(path: str) -> Tensors:
        return (
            *linear(f"{path}.k_proj", hidden, hidden, keys_have_bias),
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

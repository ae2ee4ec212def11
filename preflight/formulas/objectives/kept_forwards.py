"""What a forward keeps until its own part of a backward begins."""

from __future__ import annotations

from preflight.formulas.layers.beside_layers import shared_bytes
from preflight.formulas.layers.key_values import stream_element_bytes
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec


def kept_by_layers(plan: LaunchPlan, model: ModelSpec, tokens: int, copies: int) -> int:
    """Return what layers keep of a forward of so many tokens, with what is beside them, and so many copies of weights in
    the compute dtype."""
    precision = precision_of(plan, model)
    costs = [
        (unit.count, layer_costs(plan, model, unit, precision))
        for unit in model.layers
        if unit.layer is not None
    ]
    mode = "none" if plan.activation_checkpointing == "none" else "full"
    each = sum(count * cost.kept(mode) for count, cost in costs)
    copied = copies * sum(count * cost.copied_bytes for count, cost in costs)
    shared = shared_bytes(plan, model, precision)
    beside = 0 if shared is None else shared["forward"] * tokens // num_tokens(plan)
    return tokens * each + copied + beside


def kept_to_be_pooled(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return what stays of a forward whose hidden states are pooled, beside its layers.

    A decoder's last norm keeps what it is given, in fp32, and its product; an encoder's is its last layer's. Pooling keeps a
    mask as wide as what it is multiplied with (models/Pooling.py of sentence-transformers, 3.0 to 6.2).
    """
    c = precision_of(plan, model).bytes_of("compute")
    norm = 0 if model.is_encoder else (4 + c) * tokens * model.hidden_size
    return norm + tokens * stream_element_bytes(plan, model) * model.hidden_size

"""What layers that run on some of their tokens keep beside those that run on all: random-LTD, a mixture of depths."""

from __future__ import annotations

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec

INDICES = 20
"""Bytes of a token and layer: chances in fp32, sampled places in 64 and in 32 bits."""
OF_ROUTER = 16
"""Bytes of a router's parameter: weight, gradient and two states in fp32."""


def rows_beside(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm:
    """Return a term of whole rows that are kept around layers which run on some of their tokens.

    Each such layer takes no more than one on all of them, and has the rows that it is given and those that it gives
    beside it (GatherTokens and ScatterTokens, deepspeed/ops/random_ltd/dropping_utils.py:77-141, 0.19.8); a few more
    are there while one of them runs, in either direction. A mixture of depths has this at every other layer, with the
    rows in fp32 that its router reads (MoD/MoD.py:18-104 of mixture-of-depth, 1.1.6 to 1.2.0): at most 5.8 bytes of an
    element were counted there, of the 8 or 16 that are taken here. Either may cut a mask of its own for every layer.
    """
    tokens, num_layers = num_tokens(plan), sum(unit.count for unit in model.layers)
    width = precision_of(plan, model).bytes_of("compute")
    masks = 2 if plan.activation_checkpointing == "full" else num_layers
    rows = (2 * num_layers + 4) * model.hidden_size + masks * (plan.seq_len or 0)
    size = rows * width + INDICES * num_layers
    routers = OF_ROUTER * num_layers * model.hidden_size
    return MemoryTerm(
        "rows around layers on some tokens",
        tokens * size + routers,
        frozenset(Moment),
        f"{tokens:,} x {size:,} + {routers:,} of routers",
    )

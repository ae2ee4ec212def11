"""torchtune's adapters on each of a layer's experts at most: three pairs of matrices an expert, and a loop over experts.

LoRAGroupedExperts holds its adapters as stacks, and runs one expert after the other (modules/moe/experts.py, 0.7.0). Its
rows are those that the router sends there: transformers' layers, which such a launch is estimated with, run every expert on
every token. Forward and backward of torchtune's own module, counted on a CPU with and without grouped products:

    dim x hidden    bytes a row   of 2 (6 dim + 6 hidden) + 16 dim
    128 x 256       3,419         4,901 with indices of a grouped product     6,656
    256 x 1024      11,784        15,832                                      19,456
    512 x 512       9,355         14,259                                      20,480
    320 x 512       7,483         10,266                                      15,104
"""

from __future__ import annotations

from functools import partial

from preflight.formulas.sharding import num_tokens, shards_parameters
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, EVERY_STEP, MemoryTerm, Moment, at_most
from preflight.model import ModelSpec
from preflight.units import ceil_div

_term = partial(at_most, source=__name__)

OF_ROW, INDICES = 12, 16
"""Bytes of a row's hidden value and inner value in 16 bits, six times each, and of two indices for every hidden value."""
ALIGNED = 16
"""Rows that an expert's are filled up to, for a grouped product."""
HELD = 16
"""Bytes of a parameter of an adapter: weight, gradient and two states in fp32."""
GATHERED = 24
"""Bytes of one while its layer is at work: two layers gathered, and gradients of one expert's, each as large as the stack."""


def on_experts_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of adapters on every expert; none where nobody counted them."""
    shapes = [(unit.count, unit.layer) for unit in model.layers if unit.layer is not None]
    mixed = [(count, shape) for count, shape in shapes if shape.num_experts]
    if plan.adapter is None or plan.base_quantization is not None or not mixed or not plan.seq_len:
        return []
    of_layers = [
        (
            count,
            3
            * shape.num_experts
            * plan.adapter.rank
            * (shape.hidden_size + shape.moe_intermediate_size),
        )
        for count, shape in mixed
    ]
    every, largest = sum(count * each for count, each in of_layers), max(e for _, e in of_layers)
    shards = plan.shard_degree if shards_parameters(plan) else 1
    kept = 1 if plan.activation_checkpointing == "full" else sum(count for count, _ in mixed)
    rows = max(
        (num_tokens(plan) * shape.experts_per_token + ALIGNED * shape.num_experts)
        * (OF_ROW * (shape.hidden_size + shape.moe_intermediate_size) + INDICES * shape.hidden_size)
        for _, shape in mixed
    )
    held = HELD * ceil_div(every, shards)
    gathered = GATHERED * largest
    step = {*EVERY_STEP, Moment.EVALUATION}
    return [
        _term(
            "adapters on experts",
            held,
            {*ALWAYS, Moment.PREPARE},
            f"{every:,} x {HELD} in 1/{shards}",
        ),
        _term("adapters on a layer's experts", gathered, step, f"{largest:,} x {GATHERED}"),
        _term("rows of experts", kept * rows, step, f"{kept} x {rows:,}"),
    ]

"""Tables that a model keeps for every position it may see, whatever the length of a batch.

Read from transformers 5.24: gpt_bigcode registers a boolean causal mask of all positions
(modeling_gpt_bigcode.py), gptj fp32 rotary tables (modeling_gptj.py). Other families make theirs per
batch, and they are priced with the layers.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.memory import ALWAYS, MemoryTerm
from preflight.model import ModelSpec

DEFAULT_POSITIONS = {"gpt_bigcode": 1024, "gptj": 2048}
"""Of a config without the key (configuration_*.py, 5.24.0)."""
DEFAULT_ROTARY_DIM = 64


@hookimpl
def preflight_memory_terms(model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price registered buffers that grow with the positions of the config."""
    default = DEFAULT_POSITIONS.get(model.model_type)
    if default is None:
        return
    config = model.config
    positions = int(config.get("n_positions") or config.get("max_position_embeddings") or default)
    if model.model_type == "gpt_bigcode":
        width, size = positions, 1
    else:
        width, size = int(config.get("rotary_dim") or DEFAULT_ROTARY_DIM), 4
    yield MemoryTerm(
        "tables of all positions",
        size * positions * width,
        ALWAYS,
        f"{positions:,} x {width:,} x {size}",
        "transformers modelling code, register_buffer",
    )

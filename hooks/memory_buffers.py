"""Tables that a model keeps for every position it may see, whatever the length of a batch.

Read from transformers 5.24: gpt_bigcode registers a boolean causal mask of all positions
(modeling_gpt_bigcode.py), gptj an fp32 rotary table (modeling_gptj.py; one in every layer before 5.24). A type that a table lays out has them
in its table. GPT-2 and GPT-NeoX had such a mask in every layer in older releases. Other families make theirs per
batch, and they are priced with the layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from preflight.formulas.adapters.other_adapters import bytes_that_do_not_train
from preflight.formulas.precision import load_dtype
from preflight.formulas.user_loop import has_own_model_code
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.versions.transformers import GPT2_HAS_NO_MASK, GPT_NEOX_HAS_NO_MASK, GPTJ_HAS_SDPA

DEFAULT_POSITIONS = {"gpt_bigcode": 1024, "gptj": 2048, "gpt2": 1024, "gpt_neox": 2048}
"""Of a config without the key (configuration_*.py, 5.24.0)."""
DEFAULT_ROTARY_DIM = 64
HAS_NO_MASK = {"gpt2": GPT2_HAS_NO_MASK, "gpt_neox": GPT_NEOX_HAS_NO_MASK}
"""Types whose layers each registered a boolean mask of all positions until some release."""


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price registered buffers that grow with the positions of the config."""
    of_table: Mapping[str, int] = model.facts.get("buffers") or {}
    sizes = {"load": dtype_bytes(load_dtype(plan, model))} if "load" in of_table else {}
    parts = [(count, sizes.get(element) or int(element)) for element, count in of_table.items()]
    parts += _of_module(plan, model)
    if parts:
        yield MemoryTerm(
            "tables of all positions",
            sum(count * size for count, size in parts),
            ALWAYS,
            " + ".join(f"{count:,} x {size}" for count, size in parts),
            "transformers modelling code, register_buffer",
        )
    of_adapter = bytes_that_do_not_train(plan, model)
    if of_adapter:
        yield MemoryTerm(
            "what an adapter has and does not train",
            of_adapter,
            ALWAYS,
            "random matrices of all layers, indices of each",
            "peft/tuners, register_buffer",
        )


def _of_module(plan: LaunchPlan, model: ModelSpec) -> list[tuple[int, int]]:
    """Return elements and bytes of one, of the types that a module lays out and that have such tables."""
    default = DEFAULT_POSITIONS.get(model.model_type)
    if default is None:
        return []
    config = model.config
    positions = int(config.get("n_positions") or config.get("max_position_embeddings") or default)
    if model.model_type in HAS_NO_MASK:
        if has_own_model_code(plan) or HAS_NO_MASK[model.model_type].holds_in(plan.versions):
            return []
        return [(sum(unit.count for unit in model.layers) * positions * positions, 1)]
    if model.model_type == "gpt_bigcode":
        return [(positions * positions, 1)]
    is_shared = GPTJ_HAS_SDPA.holds_in(plan.versions)
    tables = 1 if is_shared else sum(unit.count for unit in model.layers)
    return [(tables * positions * int(config.get("rotary_dim") or DEFAULT_ROTARY_DIM), 4)]

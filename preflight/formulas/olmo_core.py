"""The most that OLMo-core's training takes beside transformers' modules of the same model, which its launches are estimated with.

Its RMSNorm multiplies by the weight in fp32 and its rotary product is in fp32, where transformers casts before
(nn/layer_norm.py:272, nn/rope.py:527 of ai2-olmo-core 3.0.0). Its optimizers walk over parameters one by one
(optim/adamw.py:15). Compiled blocks save no more than these. tests/formulas/test_olmo_core_steps.py holds steps that were counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, local_elements, num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import EVERY_STEP, MemoryTerm, Moment, at_most
from preflight.model import ModelSpec
from preflight.plan_parts import OLMO_CORE

_term = partial(at_most, source=OLMO_CORE)

TYPES = frozenset({"llama", "olmo2", "olmo3", "qwen3"})
"""Types whose layers were counted; of others OLMo-core's code is another."""
OF_LAYER = 8
"""Bytes of an element of a row of hidden values that a layer keeps beyond transformers': two of each norm's rows, and at most
four of keys and values that are repeated for every query head."""
PARTS = 8
"""Rows of hidden values that stay where the six modules of a block are checkpointed one by one: their inputs, of which each sum
has two (TransformerActivationCheckpointingMode.selected_modules, nn/transformer/model.py:870)."""
IN_STEP = 16
"""Bytes of an element of the largest parameter: four copies in fp32 at a time (optim/adamw.py:29-49)."""


def olmo_core_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of what may be more than the estimate; none where nobody counted what runs."""
    is_text = model.is_decoder_lm and not model.has_towers and model.model_type in TYPES
    is_known = plan.engine in ("fsdp2", "single") and plan.adapter is None
    is_known &= plan.context_parallel_degree == plan.tensor_parallel_degree == 1
    if not (is_text and is_known and plan.seq_len and model.layers):
        return []
    return list(_terms(plan, model))


def _terms(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    tokens = num_tokens(plan)
    row = tokens * model.hidden_size
    each = OF_LAYER * model.num_layers
    if plan.activation_checkpointing != "none":
        each = PARTS * precision_of(plan, model).bytes_of("compute") * model.num_layers + OF_LAYER
    yield _term("hidden values of OLMo-core's layers", row * each, EVERY_STEP, f"{row:,} x {each}")
    largest = max(local_elements(plan, held) for held in held_tensors(plan, model))
    step = (Moment.OPTIMIZER_STEP,)
    yield _term("a parameter's update", IN_STEP * largest, step, f"{largest:,} x {IN_STEP}")

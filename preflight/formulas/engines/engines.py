"""An inference engine on a rank's card: what vLLM takes of it, read from its own code (0.33.0).

asked for     ceil(memory_share x the whole card), which must be free when it starts; what the process has already is
              not taken off (vllm/v1/worker/utils.py request_memory)
weights       in 16 bits, divided over tensor parallel ranks
working       the peak of a profile run above them: TRL lets it take 4096 tokens at once, and draw for max_num_seqs
keys, values  all that is left (vllm/v1/worker/gpu_worker.py determine_available_memory)

SGLang's weights, keys and values are `mem_fraction_static` of what is free when it starts, and a forward and its graphs
stand beside them (sglang/srt/mem_cache/kv_cache_configurator.py _profile_available_bytes, 0.5.23): never more than that
share of the whole card and what it reserves for those itself.
"""

from __future__ import annotations

import math

from preflight.device import DeviceSpec
from preflight.formulas.engines.rollouts import generation_of, num_completions, places_groups
from preflight.formulas.layers.key_values import cache_bytes
from preflight.formulas.outside_torch import PROCESS_BYTES
from preflight.formulas.sharding import held_tensors, quantized_bytes
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import GIB, MIB, ceil_div
from preflight.unpriced_names import SGLANG
from preflight.values import dataclass, replace

BATCHED_TOKENS = 4096
"""max_num_batched_tokens that TRL gives (trl/generation/vllm_generation.py, 1.16.0)."""
DRAWN = 16
"""Bytes per logit of a sequence that is drawn from: fp32 logits, their processed log-probabilities, probabilities, and the
draw (vllm/v1/sample/sampler.py)."""
MOST_SEQUENCES = 1024
"""max_num_seqs of a large card where nobody says it (vllm/engine/arg_utils.py, 0.8 on; 256 before)."""
WEIGHT = 2
"""Bytes per weight: `auto` makes fp32 checkpoints 16 bits (vllm/config/model.py)."""


SGLANG_SOURCE = "sglang/srt/arg_groups/memory_hook.py handle_gpu_memory_settings (0.5.23)"
PREFILLED = ((160 * GIB, 8192), (math.inf, 16384))
"""Tokens that SGLang takes at once, on cards below a size."""
RESERVED_MIB = 512
"""Beside them: what is constant; every rank of tensor parallelism has an eighth of a GiB, a token at once 1.5 MiB, and each
of up to 512 sequences in a graph 2 MiB, each of up to 64 sizes of a graph 8."""
GRAPHS_MIB = 2 * 512 + 8 * 64


@dataclass(frozen=True)
class EngineBytes:
    """What an engine takes of a card."""

    weights: int
    working: int
    """Of a forward beside its weights."""
    asked: int
    """Its share of the card; 0 where no card is known."""
    sequence: int
    """Keys and values of one sequence of the longest length, below which it does not start."""

    @property
    def cache(self) -> int:
        """Keys and values that it has room for; less than 0 where the share is too small for the rest."""
        return self.asked - self.weights - self.working

    @property
    def least(self) -> int:
        """The smallest share that it starts with (vllm/v1/core/kv_cache_utils.py check_enough_kv_cache_memory)."""
        return self.weights + self.working + self.sequence

    @property
    def resident(self) -> int:
        """Weights, keys and values, awake."""
        return self.weights + max(0, self.cache)


def engine_bytes(plan: LaunchPlan, model: ModelSpec, device: DeviceSpec | None) -> EngineBytes:
    """Return what the engine beside a rank takes."""
    generation = generation_of(plan)
    assert generation is not None
    degree = generation.tensor_parallel_degree
    share = 0.3 if generation.memory_share is None else generation.memory_share
    asked = 0 if device is None else math.ceil(share * device.capacity_bytes)
    whole = sum(
        held.count
        * (
            quantized_bytes(plan, held.tensor.num_params)
            if held.quantized
            else WEIGHT * held.tensor.num_params
        )
        for held in held_tensors(replace(plan, adapter=None), model)
    )
    longest = generation.max_model_len or model.config.get("max_position_embeddings") or 0
    longest = max(longest if isinstance(longest, int) else 0, plan.seq_len or 0)
    in_16_bits = replace(plan, load_dtype="bf16", mixed_precision="bf16")
    return EngineBytes(
        ceil_div(whole, degree),
        _working(plan, model, degree),
        asked,
        ceil_div(cache_bytes(in_16_bits, model, 1, longest), degree),
    )


def _working(plan: LaunchPlan, model: ModelSpec, degree: int) -> int:
    """Return the most of a forward and a draw: the MLP's inputs and products, and rows of logits."""
    widest = 0
    for unit in model.layers:
        if unit.layer is None:
            continue
        shape = unit.layer
        wide = shape.intermediate_size + shape.shared_expert_intermediate_size
        wide += shape.experts_per_token * shape.moe_intermediate_size
        heads = shape.query_size + 2 * shape.kv_size
        widest = max(widest, ceil_div(max(3 * wide, 2 * heads), degree) + 3 * shape.hidden_size)
    passing = WEIGHT * BATCHED_TOKENS * widest
    drawn = num_completions(plan) * degree
    if places_groups(plan):  # which tells the engine nothing of how many there are
        drawn = min(drawn, MOST_SEQUENCES)
    return passing + DRAWN * max(1, drawn) * model.vocab_size


def sglang_at_most(plan: LaunchPlan, device: DeviceSpec) -> list[MemoryTerm]:
    """Return the terms of what SGLang has beside its share at most: a forward while it generates; graphs and the context of
    a process at all times."""
    generation = generation_of(plan)
    assert generation is not None
    tokens = next(number for size, number in PREFILLED if device.capacity_bytes < size)
    forward = MIB * (RESERVED_MIB + 3 * tokens // 2 + 128 * generation.tensor_parallel_degree)
    kept = MIB * GRAPHS_MIB + PROCESS_BYTES
    return [
        MemoryTerm(f"{SGLANG}: {what}", size, moments, f"{size:,}", SGLANG_SOURCE)
        for what, size, moments in (
            ("a forward", forward, frozenset({Moment.ROLLOUT})),
            ("graphs and a process", kept, ALWAYS),
        )
    ]

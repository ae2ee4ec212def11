"""What online RL makes between updates: how many completions a rank generates at once, how long, and what their keys and values take."""

from __future__ import annotations

from dataclasses import replace

from preflight.formulas.forward_alone import stream_element_bytes
from preflight.formulas.objective import ONLINE
from preflight.formulas.precision import precision_of
from preflight.launch import Generation, LaunchPlan
from preflight.model import LayerShape, ModelSpec


def generation_of(plan: LaunchPlan) -> Generation | None:
    """Return how a plan makes the completions that it trains on; None where it makes none, or nobody said how."""
    return plan.generation if plan.objective in ONLINE else None


def generates_itself(plan: LaunchPlan) -> bool:
    """Tell whether the policy generates in its own ranks, without an engine beside it."""
    generation = generation_of(plan)
    return generation is not None and generation.engine == "transformers"


def has_engine(plan: LaunchPlan) -> bool:
    """Tell whether every rank has an inference engine on its card."""
    generation = generation_of(plan)
    return generation is not None and (generation.engine, generation.mode) == ("vllm", "colocate")


def steps_per_generation(plan: LaunchPlan) -> int:
    """Return the micro batches of a rank that one rollout fills."""
    generation = generation_of(plan)
    if generation is None or generation.steps_per_generation is None:
        return plan.gradient_accumulation_steps
    return generation.steps_per_generation


def num_completions(plan: LaunchPlan) -> int:
    """Return the completions that a rank generates at once, in training or in evaluation; 0 where that is not known."""
    in_training = (plan.micro_batch_size or 0) * steps_per_generation(plan)
    return max(in_training, plan.eval_micro_batch_size or 0) if in_training else 0


def rows_of_forward(plan: LaunchPlan) -> int:
    """Return the completions that are generated and scored at once; 0 where that is not known."""
    generation, rows = generation_of(plan), num_completions(plan)
    most = None if generation is None else generation.rollout_rows
    return rows if most is None else min(rows, most)


def prompt_len(plan: LaunchPlan) -> int:
    """Return the tokens of the longest prompt; 0 where the whole length is not known."""
    generation = generation_of(plan)
    if generation is None or plan.seq_len is None:
        return 0
    return max(1, plan.seq_len - generation.max_completion_len)


def with_tokens(plan: LaunchPlan, rows: int, length: int) -> LaunchPlan:
    """Return the plan of a forward of other rows that keeps nothing for a backward."""
    return replace(plan, micro_batch_size=rows, seq_len=length, activation_checkpointing="full")


def cache_bytes(plan: LaunchPlan, model: ModelSpec, rows: int, length: int) -> int:
    """Return the keys and values of all layers, as transformers keeps them: in the dtype of the product, keys in that
    of the stream that turns them (transformers/cache_utils.py DynamicCache, 5.24.0)."""
    return sum(
        unit.count * sum(_layer_cache(plan, model, unit.layer, rows, length))
        for unit in model.layers
        if unit.layer is not None
    )


def appended_bytes(plan: LaunchPlan, model: ModelSpec, rows: int, length: int) -> int:
    """Return what a token's keys or values are copied into, beside the old ones, in the layer at hand."""
    return max(
        (
            max(_layer_cache(plan, model, unit.layer, rows, length))
            for unit in model.layers
            if unit.layer is not None
        ),
        default=0,
    )


def _layer_cache(
    plan: LaunchPlan, model: ModelSpec, layer: LayerShape, rows: int, length: int
) -> tuple[int, int]:
    """Return the bytes of one layer's keys and of its values; linear attention keeps a state that does not grow."""
    if layer.attention_kind in ("linear", "none"):
        return 0, 0
    kept = length
    if layer.attention_kind == "sliding" and layer.sliding_window:
        kept = min(length, layer.sliding_window)
    c = precision_of(plan, model).bytes_of("compute")
    values = layer.num_kv_heads * (layer.v_head_dim or layer.head_dim)
    keys = layer.num_kv_heads * layer.head_dim
    return (
        rows * kept * keys * stream_element_bytes(plan, model),
        rows * kept * values * c,
    )

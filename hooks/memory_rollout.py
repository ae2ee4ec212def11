"""A rollout of online RL in which the policy generates by itself, with transformers: keys and values, logits, gathered parameters.

All completions of a rank are generated at once, micro batch x steps per generation of them. Counted on TRL's own trainers by
tests/formulas/test_rollouts.py:

    prompts      keys and values of the prompts, and a layer's forward of all of them
    last token   keys and values of everything, one layer's copied once more, and a row of logits per completion, several times
    ZeRO-3       the whole policy in the compute dtype, unless ds3_gather_for_generation is off
    FSDP         a unit at a time, as in evaluation
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.rollouts import (
    generates_itself,
    generation_of,
    num_completions,
    prompt_len,
    rows_of_forward,
    with_tokens,
)
from preflight.formulas.layers.heads import trains_value_model
from preflight.formulas.layers.key_values import appended_bytes, cache_bytes, stream_element_bytes
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objectives.forward_alone import (
    Gathered,
    autocast_copies,
    gathered_in_forward,
)
from preflight.formulas.objectives.ppo import SOURCE as PPO_SOURCE
from preflight.formulas.objectives.ppo import completions_scores, policy_of, without_autocast
from preflight.formulas.precision import precision_of, uses_autocast
from preflight.formulas.sharding import held_tensors
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.values import replace

ROLLOUT = frozenset({Moment.ROLLOUT})
KEPT_LOGITS = frozenset(
    (*STEP_MOMENTS, *ROLLOUT, Moment.SCORING, Moment.OPTIMIZER_STEP, Moment.SAVE)
)
SOURCE = "transformers/generation/utils.py _sample, cache_utils.py DynamicLayer (5.24.0); trl/trainer/grpo_trainer.py:1763-1885 (1.16.0)"
SAMPLED = 12
"""Bytes per logit of a last token beside the model's own: an fp32 copy, its probabilities, and the draw of torch.multinomial."""


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price generation by the policy itself."""
    generation = generation_of(plan)
    if generation is None or not generates_itself(plan):
        return
    if plan.adapter is not None and plan.engine in ("single", "ddp"):
        # PeftModel.generate calls the base, whose forward accelerate has not put under autocast
        plan = replace(plan, mixed_precision="no")
    keeps_scores = trains_value_model(plan)
    if keeps_scores:
        plan = without_autocast(plan)
    gathered = _gathered(plan, model)
    if sum(gathered):
        yield MemoryTerm(
            "policy, gathered to generate",
            sum(gathered),
            ROLLOUT,
            f"{gathered.kept:,} + {gathered.passing:,}",
            "trl/models/utils.py:106-150 unwrap_model_for_generation (1.16.0)",
        )
    rows, prompt = rows_of_forward(plan), prompt_len(plan)
    if not rows or not prompt or plan.seq_len is None:
        return
    if keeps_scores:
        yield from _scored_rollout(plan, policy_of(model), rows, prompt)
        return
    whole = cache_bytes(plan, model, rows, plan.seq_len)
    yield MemoryTerm(
        "keys and values of a rollout",
        whole,
        ROLLOUT,
        f"{rows:,} completions x {plan.seq_len:,} tokens",
        SOURCE,
    )
    of_prompts = cache_bytes(plan, model, rows, prompt) + _prefill(plan, model, rows, prompt)
    at_end = whole + _last_token(plan, model, rows, plan.seq_len)
    yield MemoryTerm(
        "a rollout beside its keys and values",
        max(of_prompts, at_end) - whole,
        ROLLOUT,
        f"the larger of {of_prompts:,} and {at_end:,} - {whole:,}",
        SOURCE,
    )


def _scored_rollout(
    plan: LaunchPlan, model: ModelSpec, rows: int, prompt: int
) -> Iterable[MemoryTerm]:
    """A rollout of PPO, which keeps logits of every generated token until the next one has its own."""
    assert plan.seq_len is not None
    every = num_completions(plan)
    of_all = completions_scores(plan, model, every)
    yield MemoryTerm(
        "logits of a rollout",
        of_all,
        KEPT_LOGITS,
        f"{every:,} completions x {model.vocab_size:,} entries x 4 a token",
        PPO_SOURCE,
    )
    at_once = completions_scores(plan, model, rows)
    whole = cache_bytes(plan, model, rows, plan.seq_len)
    of_prompts = cache_bytes(plan, model, rows, prompt) + _prefill(plan, model, rows, prompt)
    generating = whole + max(at_once, _last_token(plan, model, rows, plan.seq_len))
    passing = max(of_all, of_prompts - at_once, generating)
    for name, num_bytes, is_of_second in (
        ("keys and values of a rollout, or its logits put together", passing, False),
        ("logits of the rollout before", of_all, True),
    ):
        yield MemoryTerm(
            name, num_bytes, ROLLOUT, f"{num_bytes:,}", PPO_SOURCE, from_second_step=is_of_second
        )


def _gathered(plan: LaunchPlan, model: ModelSpec) -> Gathered:
    generation = generation_of(plan)
    if plan.engine == "zero3" and generation is not None and generation.gathers_parameters:
        elements = sum(held.count * held.tensor.num_params for held in held_tensors(plan, model))
        return Gathered(precision_of(plan, model).bytes_of("compute") * elements, 0)
    return gathered_in_forward(plan, model)


def _prefill(plan: LaunchPlan, model: ModelSpec, rows: int, prompt: int) -> int:
    """Return what passes through the layer at hand while the prompts are read."""
    layer = model.largest_layer
    if layer is None or layer.layer is None:
        return 0
    there = with_tokens(plan, rows, prompt)
    costs = layer_costs(there, model, layer, precision_of(plan, model))
    stream = stream_element_bytes(plan, model)
    positions = 2 * layer.layer.head_dim * stream  # cosines and sines of every row's own positions
    passing = (
        rows * prompt * (costs.forward_checkpointed + 2 * stream * model.hidden_size + positions)
    )
    return passing + autocast_copies(plan, model)


def _last_token(plan: LaunchPlan, model: ModelSpec, rows: int, length: int) -> int:
    """Return what the last token takes: copies that autocast makes, a layer's keys once more, or logits to draw from."""
    size = precision_of(plan, model).bytes_of("logits")
    entries = rows * model.vocab_size
    copies = autocast_copies(plan, model, with_head=True)
    appended = autocast_copies(plan, model) + appended_bytes(plan, model, rows, length)
    drawn = entries * ((4 if uses_autocast(plan) else size) + SAMPLED)
    return max(copies + entries * size, appended, drawn)

"""TRL's PPO: what it keeps of a rollout and of its outputs beside the policy and the value model that it trains.

PPOTrainer wraps policy and value model in one module and runs its own loop (0.15.2 to 1.12.0), B rows of S tokens, T of them
generated, V entries, H hidden, N rows of a whole rollout, c bytes of what a model returns:

    rollout    generate(output_scores=True): 4 bytes of every logit of T x V, twice while they are put together
    kept       those of all N rows, until the next rollout has its own
    scoring    a reference's whole logits and every layer's hidden states, for as many rows as one forward has
    update     whole logits, hidden states and keys and values, until the mini batch is done

Its Accelerator knows nothing of `gradient_checkpointing`, which only Trainer's own loop turns on.
Counted by tests/formulas/ppo_steps.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.rollouts import rows_of_forward, with_tokens
from preflight.formulas.layers.heads import SCORE
from preflight.formulas.layers.key_values import cache_bytes, stream_element_bytes
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objectives.forward_alone import hidden_states
from preflight.formulas.precision import load_dtype, precision_of, uses_autocast
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, Moment
from preflight.model import ModelSpec
from preflight.units import dtype_bytes
from preflight.values import NamedTuple, replace

SOURCE = "trl/experimental/ppo/ppo_trainer.py train, batch_generation (1.12.0), trainer/ppo_trainer.py (0.15.2)"
KEPT = frozenset((*STEP_MOMENTS, Moment.OPTIMIZER_STEP)) - {Moment.FORWARD, Moment.LOSS_FORWARD}


class Named(NamedTuple):
    """Bytes with the name and the moments that a term has of them."""

    name: str
    num_bytes: int
    moments: frozenset[Moment]
    from_second_step: bool = False


def policy_of(model: ModelSpec) -> ModelSpec:
    """Return the policy alone, of a model that `with_head` put a value model beside."""
    if not any(unit.name == SCORE for unit in model.units):
        return model
    units = tuple(
        unit if unit.role == "lm_head" else replace(unit, count=unit.count // 2)
        for unit in model.units
        if unit.name != SCORE
    )
    return replace(model, units=units)


def completions_scores(plan: LaunchPlan, model: ModelSpec, rows: int) -> int:
    """Return fp32 logits of every generated token of some rows."""
    return 4 * rows * _longest_answer(plan) * model.vocab_size


def _longest_answer(plan: LaunchPlan) -> int:
    """Return the tokens of the longest completion: no longer than a row, where somebody says how long one is."""
    generation = plan.generation
    if generation is None:
        return 0
    return min(generation.max_completion_len, plan.seq_len or generation.max_completion_len)


def without_autocast(plan: LaunchPlan) -> LaunchPlan:
    """Return the plan of a forward past accelerate's wrapper: a policy that generates, and models that score."""
    return plan if plan.zero_stage is not None else replace(plan, mixed_precision="no")


def scoring_bytes(plan: LaunchPlan, policy: ModelSpec, released: int) -> int:
    """Return the bytes that the largest forward of scoring takes: the reference's, whose logits are whole, and at whose head
    what is `released` of the gathered parameters is gone."""
    layer, rows, length = policy.largest_layer, rows_of_forward(plan), plan.seq_len
    generation = plan.generation
    if layer is None or layer.layer is None or generation is None or not rows or not length:
        return 0
    there = with_tokens(without_autocast(plan), rows, length)
    tokens, size = rows * length, precision_of(there, policy).bytes_of("logits")
    costs = layer_costs(there, policy, layer, precision_of(there, policy))
    states = hidden_states(there, policy, rows * length)
    cache = cache_bytes(there, policy, rows, length)
    of_logits = size * tokens * policy.vocab_size
    row = size * _longest_answer(plan) * policy.vocab_size
    return states + cache + max(of_logits + row - released, tokens * costs.forward_checkpointed)


def update_bytes(plan: LaunchPlan, policy: ModelSpec) -> Iterable[Named]:
    """Yield what logits and outputs of an update take, by moment."""
    generation, micro = plan.generation, plan.micro_batch_size
    if generation is None or not micro or not plan.seq_len:
        return
    size = precision_of(plan, policy).bytes_of("logits")
    casts = uses_autocast(plan) and size != 4
    returned = 4 if casts else size
    whole = micro * plan.seq_len * policy.vocab_size
    scored = micro * _longest_answer(plan) * policy.vocab_size
    outputs = returned * whole + _states_kept(plan, policy, micro)
    # 16 bits are scored by a softmax, which is saved
    saved = 0 if returned == 4 else returned * scored
    yield Named("outputs of the policy", outputs, KEPT | {Moment.LOSS_FORWARD})
    yield Named(
        "log-probabilities, forward",
        max(size * whole if casts else 0, saved, returned * scored // micro),
        frozenset({Moment.LOSS_FORWARD}),
    )
    yield Named(
        "log-probabilities, backward",
        2 * returned * (whole + scored),
        frozenset({Moment.LOSS_BACKWARD}),
    )
    yield Named("gradient of the logits", size * whole, frozenset({Moment.HEAD_BACKWARD}))
    if (plan.gradient_accumulation_steps or 1) > (generation.num_mini_batches or 1):
        left = outputs + cache_bytes(plan, policy, micro, plan.seq_len) + returned * scored
        moments = frozenset({Moment.FORWARD, Moment.LOSS_FORWARD})
        yield Named("outputs of the micro batch before", left, moments)


def _states_kept(plan: LaunchPlan, policy: ModelSpec, micro: int) -> int:
    """Return hidden states that no layer saves for its own backward: 16-bit ones, of which norms save a copy."""
    narrow = stream_element_bytes(plan, policy) != 4
    if not narrow and dtype_bytes(load_dtype(plan, policy)) == 4:
        return 0
    return hidden_states(plan, policy, micro * (plan.seq_len or 0))

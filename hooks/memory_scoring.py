"""What online RL does between rollout and update: log-probabilities of policy and reference, and models that score completions.

Log-probabilities are taken a micro batch at a time, without gradients; a reward model gets all completions of the rollout at
once; of a critic of verl's this is what it keeps, and its update is judged beside the estimate (formulas/limits/bounds.py).
Counted on TRL's own trainers by tests/formulas/test_rollouts.py. A reward model is loaded like the policy, and under
DeepSpeed prepared like a reference model; under DDP and FSDP every rank has it whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.rollouts import (
    generation_of,
    places_groups,
    rows_of_forward,
    scores_again,
)
from preflight.formulas.layers.heads import trains_value_model
from preflight.formulas.objective import reference_of, refers_in_loss, scores_in_loss, second_copy
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.formulas.objectives.forward_alone import (
    autocast_copies,
    gathered_in_forward,
    gathered_of_copy,
    released_at_head,
    scored_forward,
)
from preflight.formulas.objectives.ppo import policy_of, scoring_bytes
from preflight.formulas.objectives.reward_models import reward_model_bytes
from preflight.formulas.sharding import num_tokens
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.values import replace

SCORING = frozenset({Moment.SCORING})
SOURCE = "trl/trainer/grpo_trainer.py:2640-2740, 1579-1640 (1.16.0)"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price log-probabilities before an update, the models that score, and what a critic of verl's surely keeps."""
    generation = generation_of(plan)
    if generation is None:
        return
    if plan.objective == "ppo" and trains_actor(plan):
        from preflight.formulas.objectives.critics import kept_by_critic  # few launches have one

        yield from kept_by_critic(plan, model)
    forwards = {}
    if (trains_actor(plan) or places_groups(plan)) and rows_of_forward(plan):
        plan = replace(plan, micro_batch_size=rows_of_forward(plan))
    is_ppo = trains_value_model(plan)
    if is_ppo:
        model = policy_of(model)
    if scores_again(plan):
        forwards["policy"] = sum(gathered_in_forward(plan, model)) + _forward(plan, model)
    reference = "none" if refers_in_loss(plan) else reference_of(plan)
    if reference == "adapter_off":
        forwards["policy, its adapter off"] = sum(gathered_in_forward(plan, model)) + _forward(
            plan, model
        )
    elif reference == "same":
        copy = plan if is_ppo else second_copy(plan)
        released = released_at_head(copy, model)
        scored = (scoring_bytes if is_ppo else _forward)(copy, model, released)
        forwards["reference model"] = sum(gathered_of_copy(copy, model)) + scored
    moments = frozenset({Moment.LOSS_FORWARD}) if scores_in_loss(plan) else SCORING
    models = () if trains_actor(plan) else plan.reward_models or ()
    for number in range(len(models)):
        held, passing = reward_model_bytes(plan, model)
        which = f" {number + 1}" if number else ""
        yield MemoryTerm(
            f"parameters of the reward model{which}",
            held,
            ALWAYS | {Moment.PREPARE},
            f"{held:,}",
            SOURCE,
        )
        forwards[f"reward model{which}"] = passing
    if any(forwards.values()):
        yield MemoryTerm(
            "scoring of completions",
            max(forwards.values()),
            moments,
            "the largest forward: "
            + ", ".join(f"{name} {size:,}" for name, size in forwards.items()),
            SOURCE,
        )


def _forward(plan: LaunchPlan, model: ModelSpec, released: int = 0) -> int:
    """Return the bytes that a forward of one micro batch takes beside what is gathered for it, of which some are `released`
    at its head."""
    found = scored_forward(plan, model, num_tokens(plan))
    if found is None:
        return 0
    return autocast_copies(plan, model) + max(found.at_head - released, found.at_layer)

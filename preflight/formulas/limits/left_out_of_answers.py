"""What an estimate of training on answers leaves out by the plan alone: of PPO, of Liger's losses, of verl's actor."""

from __future__ import annotations

from collections.abc import Iterator

from preflight.errors import Problem
from preflight.formulas.layers.chunked_heads import takes_ligers_chunks
from preflight.formulas.limits.doubts import ACTORS_RELEASE, COMPILED_CHUNKS, ENGINES_ROOM
from preflight.formulas.limits.unpriced import unpriced_objective
from preflight.formulas.objective import (
    is_of_trl,
    reads_completion_logits,
    reference_of,
    trains_groups,
)
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.formulas.precision import uses_autocast
from preflight.formulas.trainer_arguments import where_of
from preflight.launch import LaunchPlan
from preflight.unpriced_names import PROMPT_LOGITS
from preflight.versions.transformers import TAKES_LOGITS_TO_KEEP, TAKES_NUM_LOGITS_TO_KEEP
from preflight.versions.trl_pairs import DPO_TAKES_ENTROPY
from preflight.versions.verl import SERVES_ITS_ENGINE


def left_out_of_answers(plan: LaunchPlan) -> Iterator[Problem]:
    """Yield what no formula holds of a plan that trains on answers."""
    if plan.objective == "ppo":
        yield from _left_out_of_ppo(plan)
    if trains_actor(plan):
        yield from _of_the_actor(plan)
    if takes_ligers_chunks(plan):
        yield from _of_ligers_chunks(plan)
    if reads_completion_logits(plan) and is_of_trl(plan):
        yield from _of_prompts(plan)


def _of_prompts(plan: LaunchPlan) -> Iterator[Problem]:
    """Yield that a release of transformers makes the logits of prompts too, for whatever TRL asks.

    TRL cuts them off afterwards, so that a step takes no more than with completions as long as its rows.
    """
    asked = TAKES_NUM_LOGITS_TO_KEEP if trains_groups(plan) else TAKES_LOGITS_TO_KEEP
    if not asked.holds_in(plan.versions):
        argument = "num_logits_to_keep" if trains_groups(plan) else "logits_to_keep"
        yield Problem.left_out(
            f"models of this release of transformers know no {argument}: logits of prompts are made, and are not counted",
            "the release of transformers",
            PROMPT_LOGITS,
            "more",
            f"--set versions.transformers={asked.since}, where that is so",
        )


def _left_out_of_ppo(plan: LaunchPlan) -> Iterator[Problem]:
    """Yield what the engine or a change of the plan leaves out of PPO, which a script's arguments alone do not tell."""
    unpriced = unpriced_objective(plan)
    if unpriced and not any(notice.unpriced for notice in plan.notices):
        yield Problem(
            f"TRL's ppo trainer is estimated in part, without {unpriced}",
            id="PF438",
            severity="warning",
            unpriced=unpriced,
            takes="either",
        )


def _of_the_actor(plan: LaunchPlan) -> Iterator[Problem]:
    """Yield that verl's release decides how much of the card its engine finds, and what logits take."""
    is_known = "verl" in plan.versions
    if is_known and SERVES_ITS_ENGINE.holds_in(plan.versions):
        return
    of_logits = ", and logits as the release of verl that takes most has them"
    yield Problem.left_out(
        f"an engine's share is estimated as one of the whole card{'' if is_known else of_logits}",
        "versions.verl" if is_known else "nothing says which verl the launch will have",
        ENGINES_ROOM if is_known else ACTORS_RELEASE,
        "less",
        "" if is_known else "`--set versions.verl=VERSION`",
    )


def _of_ligers_chunks(plan: LaunchPlan) -> Iterator[Problem]:
    """Yield what Liger's losses make of answers otherwise: compiled, and past accelerate's autocast.

    TRL calls the model's own decoder, and not the forward around which accelerate has put autocast (grpo_trainer.py
    _forward_redirection, 0.18.2 to 1.13.0; dpo_trainer.py _compute_loss_liger, 0.19.1 to 1.13.0).
    """
    at = where_of(plan, "loss")
    message = "Liger's loss is estimated as it is without torch.compile, which makes less of an answer's logits"
    yield Problem.left_out(message, at, COMPILED_CHUNKS, "less")
    if uses_autocast(plan) and plan.engine != "fsdp1" and plan.load_dtype in (None, "fp32"):
        message = "Liger's loss calls the model past accelerate's autocast: its activations are fp32, as its weights are"
        unpriced = "a forward past autocast"
        yield Problem.left_out(message, at, unpriced, "more", "--dtype bfloat16")
    if plan.objective != "dpo":
        return
    if plan.is_fsdp:
        message = "Liger's loss of pairs calls layers past the wrapper that gathers them: it is estimated as if they were"
        unpriced = "Liger's loss of pairs under FSDP"
        yield Problem.left_out(message, at, unpriced, "either")
    if reference_of(plan) == "same" and not DPO_TAKES_ENTROPY.holds_in(plan.versions):
        message = "before TRL 0.29 the reference model of Liger's loss runs with a graph, whose activations are not counted"
        unpriced = "a reference model with a graph"
        yield Problem.left_out(message, at, unpriced, "more", "trl>=0.29")

"""What online RL makes between updates: how many completions a rank generates at once, and how long."""

from __future__ import annotations

from preflight.formulas.objective import ONLINE, sequences_per_sample, steps_per_generation
from preflight.launch import Generation, LaunchPlan
from preflight.memory import ALWAYS, ONLINE_MOMENTS, Moment
from preflight.units import ceil_div
from preflight.values import replace


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


def places_groups(plan: LaunchPlan) -> bool:
    """Tell whether every model is a group of processes of its own, as in OpenRLHF's PPO on Ray."""
    return plan.launcher == "openrlhf" and plan.objective in ONLINE


def starts_engines(plan: LaunchPlan) -> bool:
    """Tell whether a launch starts inference engines itself, on the cards of its ranks or on others."""
    return has_engine(plan) or places_groups(plan)


def processes_beside(plan: LaunchPlan) -> int:
    """Return the other processes on a rank's card, each with a context of its own: of other models, and of an engine."""
    if not places_groups(plan):
        return 0
    others = int(plan.reference_model == "same") + len(plan.reward_models or ())
    return others + int(has_engine(plan))


def parameters_there(plan: LaunchPlan) -> frozenset[Moment]:
    """Return when a policy's parameters are on its card: not during a rollout where they are moved to the host for it."""
    generation = generation_of(plan)
    away = generation is not None and generation.offloads_params
    return ALWAYS - {Moment.ROLLOUT} if away else ALWAYS


def states_there(plan: LaunchPlan) -> frozenset[Moment]:
    """Return when its optimizer states are: in an update alone where they are moved to the host between two."""
    generation = generation_of(plan)
    away = generation is not None and generation.offloads_optimizer
    return ALWAYS - ONLINE_MOMENTS if away else ALWAYS


def between_micro_steps(plan: LaunchPlan) -> frozenset[Moment]:
    """Return the moments beside those of a step at which gradients of earlier micro steps are there."""
    generation, accumulation = generation_of(plan), plan.gradient_accumulation_steps
    waits = generation is not None and generation.gradients_wait
    if generation is not None and generation.batch_size is not None:
        waits = _steps_of_completions(plan) % accumulation != 0
    return ONLINE_MOMENTS if waits and accumulation > 1 else frozenset()


def scores_again(plan: LaunchPlan) -> bool:
    """Tell whether the policy's log-probabilities are taken once more between rollout and update: always, or because an
    optimizer step comes between completions and the last micro step that trains on them."""
    generation = generation_of(plan)
    if generation is None or generation.scores_again or generation.batch_size is None:
        return generation is not None and generation.scores_again
    return plan.gradient_accumulation_steps % _steps_of_completions(plan) != 0


def _steps_of_completions(plan: LaunchPlan) -> int:
    """Return the micro steps that train on the completions of one rollout, all times that they are gone over."""
    iterations = plan.trainer_facts.value("num_iterations", 1)
    return steps_per_generation(plan) * (iterations if isinstance(iterations, int) else 1)


def num_completions(plan: LaunchPlan) -> int:
    """Return the completions that a rank generates at once, in training or in evaluation; 0 where that is not known."""
    in_training = (plan.micro_batch_size or 0) * steps_per_generation(plan)
    rows = max(in_training, plan.eval_micro_batch_size or 0) if in_training else 0
    return rows * sequences_per_sample(plan)


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
    rows = ceil_div(rows, sequences_per_sample(plan))
    return replace(plan, micro_batch_size=rows, seq_len=length, activation_checkpointing="full")

"""What stands beside the actor of OpenRLHF's PPO on Ray, or on fewer cards than it has, and bounds a launch that fits.

A critic on the actor's card is a process of its own, whose update holds what the actor's does but for logits. A model
that only scores, on cards of its own, holds its share of the parameters and a forward of the rows that the actor scores
as well: the actor's card with that share beside its own bounds it, whatever the actor keeps.
"""

from __future__ import annotations

from collections.abc import Collection

from preflight.formulas.engines.deepspeed_rules import bucket_elements
from preflight.formulas.engines.rollouts import places_groups
from preflight.formulas.outside_torch import PROCESS_BYTES
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

FEWER = {"ref": "a reference model on fewer cards", "reward": "a reward model on fewer cards"}
"""Group -> what is said of one whose shards are larger than the actor's."""
SIZE = 2
"""Bytes of a parameter in 16 bits, in which all of them are loaded."""
STATES = 12
"""Of DeepSpeed's Adam: both moments and a master copy, in fp32."""
SOURCE = "openrlhf/trainer/ray/ppo_critic.py, launcher.py (0.5.9 to 0.11.2)"


def critic_of_group(plan: LaunchPlan, model: ModelSpec) -> MemoryTerm | None:
    """Return what a critic of the actor's shapes has on its card: parameters, and between updates states that do not
    sleep. None where it has other shapes, or adapters."""
    generation = plan.generation
    is_known = generation is not None and generation.critic_rows is not None
    if not places_groups(plan) or not is_known or plan.adapter is not None:
        return None
    elements = model.num_params - model.head_params
    shard = ceil_div(elements, plan.shard_degree if plan.zero_stage else 1)
    is_third = plan.zero_stage == 3
    sleeps = generation is not None and generation.offloads_optimizer
    stays = not sleeps and plan.offload_optimizer == "none"
    held = SIZE * (shard if is_third else elements)
    states = (STATES + SIZE * is_third) * shard if stays else 0
    buckets = SIZE * bucket_elements(plan, model) if stays and is_third else 0
    formula = f"{held:,} + {states:,} of states + {buckets:,} of a bucket + {PROCESS_BYTES:,} of its process"
    name = "parameters and states of the critic"
    return MemoryTerm(name, held + states + buckets + PROCESS_BYTES, ALWAYS, formula, SOURCE)


def on_fewer_cards(
    plan: LaunchPlan, model: ModelSpec, named: Collection[str]
) -> tuple[MemoryTerm | None, frozenset[str]]:
    """Return the share of parameters that a model has which scores on the fewest cards, and what is said of such models."""
    groups = [group for group, name in FEWER.items() if name in named]
    if not groups:
        return None, frozenset()
    fewest = min(_ranks(plan, group) for group in groups)
    share = ceil_div(SIZE * model.num_params, fewest)
    name, formula = "parameters on fewer cards", f"{model.num_params:,} x {SIZE} / {fewest}"
    term = MemoryTerm(name, share, frozenset({Moment.SCORING}), formula, SOURCE)
    return term, frozenset(FEWER[group] for group in groups)


def _ranks(plan: LaunchPlan, group: str) -> int:
    """Return the ranks of a group: one node of eight unless somebody says it (cli/train_ppo_ray.py, 0.3.8 to 0.11.2)."""
    said = plan.trainer_facts
    return int(said.value(f"{group}_num_nodes", 1)) * int(
        said.value(f"{group}_num_gpus_per_node", 8)
    )

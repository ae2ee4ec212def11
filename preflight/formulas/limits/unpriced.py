"""What of an objective no formula holds, in words: by trainer, release and engine."""

from __future__ import annotations

from preflight.formulas.engines.rollouts import places_groups
from preflight.formulas.objective import (
    COMPARED,
    GENERATED_PAIRS,
    GENERATES,
    KEEPS_LOGITS,
    LANGUAGE_MODEL,
    OF_LLAMAFACTORY,
    OF_SWIFT,
    ONLINE,
    OWN_PAIRS,
    SCORED,
    has_value_head,
    is_of_llamafactory,
    is_of_swift,
    is_of_torchtune,
    is_of_trl,
    is_taught,
    reads_completion_logits,
    reference_of,
    trains_groups,
)
from preflight.formulas.objectives.actor_losses import trains_actor
from preflight.launch import LaunchPlan
from preflight.plan_choices import HF_TRAINERS
from preflight.unpriced_names import OTHER_REWARD_MODEL, TEACHER
from preflight.versions.boundary import Boundary, version_in
from preflight.versions.ms_swift import COMPLETES_ITS_KTO, SCORES_PAIRS_ROW_BY_ROW
from preflight.versions.torchtune import DELETES_LOGITS
from preflight.versions.trl import (
    FUSES_HEAD,
    HAS_NO_PPO,
    HAS_NO_PRM,
    LOGPROBS_ROW_BY_ROW,
    SCORES_AS_GRPO,
    SCORES_ROWS_OF_PPO,
)
from preflight.versions.trl_online import GATHERS_ROOT, HAS_GRPO
from preflight.versions.trl_pairs import DPO_SHARDS_REFERENCE, KTO_SCORES_WHOLE, REFERENCE_HAS_FSDP2


def unpriced_objective(plan: LaunchPlan) -> str:
    """Return in words what of a plan's objective no formula holds; empty where all of it is priced."""
    objective = plan.objective
    if objective in LANGUAGE_MODEL:
        return ""
    is_read = plan.script_facts.step_loss is not None
    if objective == OWN_PAIRS:
        return "" if is_read else "the log-probabilities of a loss that was not read"
    if objective == "dpo" and is_read:
        is_known = reference_of(plan) in ("same", "adapter_off")
        return "" if is_known else "a reference model of another size"
    if places_groups(plan):  # its reader names the models that are not on the actor's cards
        return "" if plan.generation is not None else "how openrlhf generates"
    if objective in SCORED:
        if objective == "reward" and is_of_trl(plan):
            return ""
        if has_value_head(plan):
            return _unpriced_of_llamafactory(plan)
        if objective == "reward" and is_of_swift(plan):
            return ""
        if objective == "prm" and HAS_NO_PRM.holds_in(plan.versions):
            return f"{objective} after TRL 1.13"
        is_known = plan.trainer in (*HF_TRAINERS, "plain_loop") and objective != "reward"
        is_known = is_known or (plan.trainer is None and objective == "scored_pairs")
        return "" if is_known else f"{objective} of {_whose(plan)}"
    if is_of_llamafactory(plan) and objective in OF_LLAMAFACTORY:
        return _unpriced_of_llamafactory(plan)
    if is_of_swift(plan) and objective in OF_SWIFT:
        return _unpriced_of_swift(plan)
    if objective == "embedding":
        return "" if plan.trainer == "transformers" else f"{objective} of {_whose(plan)}"
    if trains_actor(plan):  # what its reader knows of and no formula holds is named there
        return "how verl generates" if plan.generation is None else ""
    if is_of_torchtune(plan):
        reference = reference_of(plan)
        if reference == "same":  # full_dpo_distributed came with 0.6
            return "a compiled reference model of torchtune's" if plan.torch_compile else ""
        if reference != "adapter_off":
            return "a reference model of another size"
        return "" if DELETES_LOGITS.holds_in(plan.versions) else "pairs before torchtune 0.3"
    if is_taught(plan):
        return TEACHER
    if not is_of_trl(plan):
        return f"{objective} of {_whose(plan)}"
    if objective == "ppo":
        return _unpriced_ppo(plan)
    if objective in (
        "nash_md",
        "xpo",
    ):  # counted 10 % above online DPO's formula, and 10 % below it (docs/online-rl.md)
        return f"the log-probabilities of {objective}"
    if objective in GENERATED_PAIRS or objective == "bco":
        return _unpriced_experiment(plan)
    if objective in ("dpo", "ipo") and not FUSES_HEAD.holds_in(plan.versions):
        return _unpriced_pairs(plan)
    boundary = FUSES_HEAD if objective in (*COMPARED, *ONLINE) else None
    if objective == "kto" and KTO_SCORES_WHOLE.holds_in(plan.versions):
        boundary = KTO_SCORES_WHOLE
    if objective in KEEPS_LOGITS:
        return ""
    if reads_completion_logits(plan):
        since = SCORES_AS_GRPO if objective == "rloo" else HAS_GRPO
        boundary = since if since.holds_in(plan.versions) else boundary
    if boundary is None:
        generates = f"{objective}: generation, and the models that score"
        return generates if objective in GENERATES else f"{objective} of TRL"
    if not boundary.holds_in(plan.versions):
        return f"the log-probabilities of {objective} {_when(plan, boundary)}"
    if reference_of(plan) not in ("none", "same", "adapter_off"):
        return "a reference model of another size"
    if objective in ONLINE and plan.generation is None:
        return f"how {objective} generates"
    if objective == "grpo" and plan.is_fsdp and not GATHERS_ROOT.holds_in(plan.versions):
        return f"GRPO under FSDP before TRL {GATHERS_ROOT.since}"
    if trains_groups(plan) and plan.reward_models:
        return "a reward model beside the graph of TRL 0.14"
    if any(model != "same" for model in plan.reward_models or ()):
        return OTHER_REWARD_MODEL
    return ""


PRICED_SINCE = {"kto": KTO_SCORES_WHOLE, "grpo": HAS_GRPO, "rloo": SCORES_AS_GRPO}
"""Objective -> since when TRL's whole logits of it are priced, but for one release between those and a fused head."""


def _when(plan: LaunchPlan, boundary: Boundary) -> str:
    """Return in words which releases are not priced, of which the plan's is one."""
    first = PRICED_SINCE.get(plan.objective or "", boundary)
    is_older = version_in(plan.versions, first.library) < first.release
    return f"before TRL {first.since}" if is_older else f"in TRL {plan.versions['trl']}"


def _whose(plan: LaunchPlan) -> str:
    """Return in words who takes the steps of a plan."""
    if is_of_llamafactory(plan):
        return "LLaMA-Factory"
    if is_of_swift(plan):
        return "ms-swift"
    trainer = plan.trainer or "a trainer that is not known"
    return plan.launcher if plan.launcher == "axolotl" else trainer


def _unpriced_ppo(plan: LaunchPlan) -> str:
    """Return in words what of TRL's PPO no formula holds.

    Under FSDP its policy generates, and its value model scores, past the wrapper that gathers what they need.
    """
    if HAS_NO_PPO.holds_in(plan.versions):
        return "PPO after TRL 1.12"
    if not SCORES_ROWS_OF_PPO.holds_in(plan.versions):
        return f"PPO before TRL {SCORES_ROWS_OF_PPO.since}"
    if plan.is_fsdp:
        return "PPO under FSDP"
    if plan.adapter is not None:
        return "a value model beside an adapter"
    if any(model != "same" for model in plan.reward_models or ()):
        return OTHER_REWARD_MODEL
    return "how ppo generates" if plan.generation is None else ""


def _unpriced_experiment(plan: LaunchPlan) -> str:
    """Return in words what no formula holds of BCO, and of pairs that are generated.

    Online DPO is in TRL to this day; BCO went with the trainer of PRM.
    """
    objective = plan.objective
    if objective != "online_dpo" and HAS_NO_PRM.holds_in(plan.versions):
        return f"{objective} after TRL 1.13"
    if not LOGPROBS_ROW_BY_ROW.holds_in(plan.versions):
        return f"{objective} before TRL {LOGPROBS_ROW_BY_ROW.since}"
    if plan.is_fsdp:
        return f"{objective} under FSDP"
    if reference_of(plan) not in ("none", "same", "adapter_off"):
        return "a reference model of another size"
    if objective == "bco":
        return ""
    if plan.generation is None:
        return f"how {objective} generates"
    is_other = any(model != "same" for model in plan.reward_models or ())
    return OTHER_REWARD_MODEL if is_other else ""


def _unpriced_of_llamafactory(plan: LaunchPlan) -> str:
    """Return in words what of LLaMA-Factory's training on answers no formula holds."""
    if has_value_head(plan):
        # accelerate asks the wrapper for the layers to wrap, which names none (accelerate/utils/dataclasses.py
        # set_auto_wrap_policy, 1.11.0)
        return "a value head under FSDP" if plan.is_fsdp else ""
    if plan.loss not in (None, "full_logits", "fused_ce"):
        return "log-probabilities beside Liger's fused head"
    reference = reference_of(plan)
    if reference not in ("none", "same", "adapter_off"):
        return "a reference model of another size"
    return "a reference model under FSDP" if reference == "same" and plan.is_fsdp else ""


def _unpriced_of_swift(plan: LaunchPlan) -> str:
    """Return in words what of ms-swift's training on answers no formula holds."""
    is_online = plan.objective == "grpo"
    boundary = COMPLETES_ITS_KTO if plan.objective == "kto" else SCORES_PAIRS_ROW_BY_ROW
    if plan.objective not in KEEPS_LOGITS and not boundary.holds_in(plan.versions):
        return f"log-probabilities of ms-swift before {boundary.since}"
    reference = reference_of(plan)
    if reference not in ("none", "same", "adapter_off"):
        return "a reference model of another size"
    if plan.is_fsdp and (is_online or reference == "same"):
        return "GRPO of ms-swift under FSDP" if is_online else "a reference model under FSDP"
    if is_online and plan.generation is None:
        return "how grpo generates"
    return "reward models of ms-swift" if is_online and plan.reward_models else ""


def _unpriced_pairs(plan: LaunchPlan) -> str:
    """Return in words what of DPO over whole logits no formula holds."""
    reference = reference_of(plan)
    if reference not in ("none", "same", "adapter_off"):
        return "a reference model of another size"
    if reference == "same" and plan.is_fsdp:
        boundary = REFERENCE_HAS_FSDP2 if plan.engine == "fsdp2" else DPO_SHARDS_REFERENCE
        if not boundary.holds_in(plan.versions):
            return f"a reference model under FSDP{plan.engine[4]} before TRL {boundary.since}"
    return ""

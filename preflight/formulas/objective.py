"""What an objective changes: the sequences of a micro step, the head that is trained, and the model it is compared with.

dpo, ipo            2 x micro batch, chosen beside rejected   compared with a reference model
kto                 micro batch                               compared with a reference model
                    (LLaMA-Factory's: and as many without a graph, for its KL term)
orpo, cpo, simpo    2 x micro batch                           no reference model
reward              2 x micro batch                           a score in place of the vocabulary
scored_pairs        2 x micro batch                           the same, by a loss of the script's own
scored_in_turn      2 x micro batch, in two forwards          the same (and `reward` of TRL before 0.24)
preference_pairs    2 x micro batch                           log-probabilities, by a loss of the script's own
classification, prm micro batch                               a score for every label
                    (FlagEmbedding's rerankers: x texts of a row)
masked_lm           micro batch                               an encoder's words that were masked
embedding           micro batch x texts of a row              the mean of what a model without a head returns
grpo, rloo          micro batch, of completions               compared with a reference model, before the step
"""

from __future__ import annotations

from dataclasses import replace

from preflight.formulas.texts import forwards_of
from preflight.launch import LaunchPlan
from preflight.model import MASKED_LM
from preflight.plan_choices import HF_TRAINERS
from preflight.versions.ms_swift import COMPLETES_ITS_KTO, SCORES_PAIRS_ROW_BY_ROW
from preflight.versions.trl import (
    CHUNKS_PAIRS,
    COMPARES_WITH_NOTHING,
    FUSES_HEAD,
    FUSES_LOGPROBS,
    GENERATES_IN_ENGINES,
    HAS_NO_PPO,
    HAS_NO_PRM,
    SCORES_AS_GRPO,
    SCORES_ROWS_OF_PPO,
)
from preflight.versions.trl_pairs import (
    DPO_LOSES_LOGPROBS,
    DPO_SCORES_AGAIN,
    DPO_SHARDS_REFERENCE,
    KTO_SCORES_WHOLE,
    REFERENCE_HAS_FSDP2,
)

LANGUAGE_MODEL = (None, "sft", "pretrain", MASKED_LM)
"""Objectives whose loss is the next token's; a plan without one is taken to have it."""
OWN_PAIRS = "preference_pairs"
"""Of a script whose own step takes log-probabilities of pairs (preflight/scripts/step_loss.py)."""
PAIRED = (
    "dpo", "ipo", "orpo", "cpo", "simpo", "reward", "scored_pairs", "scored_in_turn", OWN_PAIRS,
)  # fmt: skip
"""Objectives that put chosen and rejected answers into one forward, chosen first, padded to the longest of both
(trl/trainer/dpo_trainer.py:150-190, reward_trainer.py:196-220, experimental/orpo/orpo_trainer.py concatenated_inputs,
1.16.0)."""
ONLINE = ("grpo", "rloo", "ppo")
"""Objectives that generate what they train on, and score it, before an update with it."""
GENERATES = ("online_dpo", "nash_md", "xpo", "distillation")
"""Those that generate and are priced by nobody here."""
COMPARED = ("dpo", "ipo", "kto")
"""Objectives that need the log-probabilities of a reference model."""
KEEPS_LOGITS = ("orpo", "cpo", "simpo")
"""Objectives of TRL that read whole logits, and take their log-probabilities beside another loss."""
SCORED = (
    "reward", "prm", "scored_pairs", "scored_in_turn", "sequence_classification", "token_classification",
)  # fmt: skip
"""Objectives whose head scores hidden states: no logits of the vocabulary."""


OF_LLAMAFACTORY = ("dpo", "ipo", "orpo", "simpo", "kto")
"""What LLaMA-Factory's stages `dpo` and `kto` train for, each a trainer of its own (train/dpo/trainer.py, 0.9.4;
train/kto/trainer.py, 0.8.3 to 0.9.5)."""
OF_SWIFT = ("dpo", "ipo", "kto", "orpo", "cpo", "simpo", "reward", "grpo")
"""What ms-swift's `rlhf` trains for with classes that derive from TRL's, whose DPO and KTO score logits themselves
(rlhf_trainers, 4.6.0)."""


def takes_cross_entropy(plan: LaunchPlan) -> bool:
    """Tell whether ORPO's, CPO's or SimPO's loss has a cross entropy of the chosen answers beside log-probabilities.

    CPO's and SimPO's have where `cpo_alpha` is not 0, and it is 1 unless somebody says it
    (trl/experimental/cpo/cpo_config.py and cpo_trainer.py:841, 1.12.0; cpo_trainer.py:760, 0.12.2).
    """
    weight = str(plan.trainer_facts.value("cpo_alpha", 1.0))
    return plan.objective == "orpo" or weight.rstrip("0.") != ""


OF_AXOLOTL = ("dpo", "ipo", "kto", "orpo", "simpo", "reward", "prm")
"""What axolotl trains with classes that derive from TRL's and change nothing of their losses (core/trainers/trl.py,
dpo/trainer.py, core/builders/rl.py, 0.18.0)."""


def is_of_trl(plan: LaunchPlan) -> bool:
    """Tell whether TRL's own losses run: in its trainers, or in axolotl's."""
    return plan.trainer == "trl" or (plan.launcher == "axolotl" and plan.objective in OF_AXOLOTL)


def is_of_llamafactory(plan: LaunchPlan) -> bool:
    """Tell whether LLaMA-Factory's own trainers run, which derive from TRL's and score logits themselves."""
    return plan.launcher == "llamafactory" and plan.trainer == "transformers"


def is_of_swift(plan: LaunchPlan) -> bool:
    """Tell whether ms-swift's own trainers run."""
    return plan.launcher == "swift" and plan.trainer == "transformers"


def num_sequences(plan: LaunchPlan) -> int:
    """Return the sequences that a rank's model sees at once; 1 where the micro batch is not known."""
    if plan.objective == "embedding":
        return forwards_of(plan).rows
    return sequences_per_sample(plan) * (plan.micro_batch_size or 1)


def forwards_at_once(plan: LaunchPlan) -> int:
    """Return the forwards whose activations wait for one backward: each has autocast's copies of weights for itself."""
    loss = plan.script_facts.step_loss
    own = 1 if loss is None else loss.forwards
    return 2 if scores_in_turn(plan) else own


def of_one_forward(plan: LaunchPlan) -> LaunchPlan:
    """Return the plan of one of a micro step's forwards, of which each has as many rows as the micro batch."""
    return plan if forwards_at_once(plan) == 1 else replace(plan, objective=None)


def scores_in_turn(plan: LaunchPlan) -> bool:
    """Tell whether chosen and rejected answers are scored one after the other."""
    is_older = plan.objective == "reward" and is_of_trl(plan)
    return plan.objective == "scored_in_turn" or (
        is_older and not CHUNKS_PAIRS.holds_in(plan.versions)
    )


def sequences_per_sample(plan: LaunchPlan) -> int:
    """Return the sequences that one row of the data becomes."""
    if plan.objective in ("embedding", "sequence_classification"):
        return plan.texts_per_row or 1
    return 2 if plan.objective in PAIRED else 1


def scored_tokens(plan: LaunchPlan, tokens: int) -> int:
    """Return the tokens of a forward whose log-probability is taken: all but each sequence's first, or a completion's alone."""
    generation = plan.generation
    if plan.objective in ONLINE and generation is not None and plan.seq_len:
        return tokens // plan.seq_len * min(generation.max_completion_len, plan.seq_len - 1)
    return tokens - num_sequences(plan)


def reads_completion_logits(plan: LaunchPlan) -> bool:
    """Tell whether log-probabilities come of whole logits of completions alone, as GRPO's and RLOO's did before their head was fused."""
    if is_of_swift(plan):
        return plan.objective == "grpo"
    is_old = not FUSES_HEAD.holds_in(plan.versions) and not FUSES_LOGPROBS.holds_in(plan.versions)
    return plan.objective in ("grpo", "rloo") and plan.trainer == "trl" and is_old


def tokens_with_logits(plan: LaunchPlan, tokens: int) -> int:
    """Return the tokens of a forward that the head makes logits for: with `logits_to_keep`, a completion and one before."""
    generation = plan.generation
    if not reads_completion_logits(plan) or generation is None or not plan.seq_len:
        return tokens
    return tokens // plan.seq_len * min(generation.max_completion_len + 1, plan.seq_len)


def is_scored(plan: LaunchPlan) -> bool:
    """Tell whether the head scores, and knows nothing of a vocabulary."""
    if plan.objective == "reward":  # others put a value head beside the language model's
        return is_of_trl(plan) or is_of_swift(plan)
    return plan.objective in SCORED


def has_value_head(plan: LaunchPlan) -> bool:
    """Tell whether a value is trained beside whole logits that no loss reads: LLaMA-Factory's reward models are TRL's
    AutoModelForCausalLMWithValueHead (train/rm/workflow.py, 0.8.3 to 0.9.5)."""
    return plan.objective == "reward" and is_of_llamafactory(plan)


def has_linear_head(plan: LaunchPlan) -> bool:
    """Tell whether the head is a layer like others, which makes whole logits and casts its weight under autocast."""
    has_none = is_scored(plan) or plan.objective == "embedding"
    return not has_none and plan.loss not in ("chunked_linear", "fused_linear")


def reference_of(plan: LaunchPlan) -> str:
    """Return what a plan is compared with: none, adapter_off, same (a second copy), or another model's id.

    Without one that is said, the trainer switches its adapter off, or loads the model a second time
    (trl/trainer/dpo_trainer.py:922-944, kto_trainer.py:919-940, 1.16.0).
    """
    if plan.reference_model == "none" and is_of_trl(plan) and plan.objective in PAIRED[:2]:
        runs_again = any(b.holds_in(plan.versions) for b in (DPO_SCORES_AGAIN, DPO_LOSES_LOGPROBS))
        return "adapter_off" if runs_again else "none"
    if plan.reference_model is not None:
        return plan.reference_model
    if plan.objective == "grpo" and COMPARES_WITH_NOTHING.holds_in(plan.versions):
        return "none"
    if plan.objective not in (*COMPARED, *ONLINE):
        return "none"
    return "same" if plan.adapter is None else "adapter_off"


def unpriced_objective(plan: LaunchPlan) -> str:
    """Return in words what of a plan's objective no formula holds; empty where all of it is priced."""
    objective = plan.objective
    if objective in LANGUAGE_MODEL:
        return ""
    if objective == OWN_PAIRS:
        is_read = plan.script_facts.step_loss is not None
        return "" if is_read else "the log-probabilities of a loss that was not read"
    if objective in SCORED:
        if objective == "reward" and is_of_trl(plan):
            return ""
        if has_value_head(plan):
            return _unpriced_of_llamafactory(plan)
        if objective == "reward" and is_of_swift(plan):
            return ""
        if objective == "prm" and HAS_NO_PRM.holds_in(plan.versions):
            return "PRM after TRL 1.13"
        is_known = plan.trainer in (*HF_TRAINERS, "plain_loop") and objective != "reward"
        return "" if is_known else f"{objective} of {_whose(plan)}"
    if is_of_llamafactory(plan) and objective in OF_LLAMAFACTORY:
        return _unpriced_of_llamafactory(plan)
    if is_of_swift(plan) and objective in OF_SWIFT:
        return _unpriced_of_swift(plan)
    if objective == "embedding":
        return "" if plan.trainer == "transformers" else f"{objective} of {_whose(plan)}"
    if not is_of_trl(plan):
        return f"{objective} of {_whose(plan)}"
    if objective == "ppo":
        return _unpriced_ppo(plan)
    if objective in ("dpo", "ipo") and not FUSES_HEAD.holds_in(plan.versions):
        return _unpriced_pairs(plan)
    boundary = FUSES_HEAD if objective in (*COMPARED, *ONLINE) else None
    if objective == "kto" and KTO_SCORES_WHOLE.holds_in(plan.versions):
        boundary = KTO_SCORES_WHOLE
    if objective in KEEPS_LOGITS:
        return ""
    if reads_completion_logits(plan):
        since = SCORES_AS_GRPO if objective == "rloo" else GENERATES_IN_ENGINES
        boundary = since if since.holds_in(plan.versions) else boundary
    if boundary is None:
        generates = f"{objective}: generation, and the models that score"
        return generates if objective in GENERATES else f"{objective} of TRL"
    if not boundary.holds_in(plan.versions):
        return f"the log-probabilities of {objective} before TRL {boundary.since}"
    if reference_of(plan) not in ("none", "same", "adapter_off"):
        return "a reference model of another size"
    if objective in ONLINE and plan.generation is None:
        return f"how {objective} generates"
    if any(model != "same" for model in plan.reward_models or ()):
        return "a reward model of another size"
    return ""


FRAMEWORKS = {"axolotl": "axolotl", "llamafactory": "LLaMA-Factory", "swift": "ms-swift"}
"""Launchers that train with transformers' Trainer and classes of their own -> what they are called."""


def _whose(plan: LaunchPlan) -> str:
    """Return in words who takes the steps of a plan."""
    return FRAMEWORKS.get(plan.launcher or "", plan.trainer or "a trainer that is not known")


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
        return "a reward model of another size"
    return "how ppo generates" if plan.generation is None else ""


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

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
bco                 micro batch                               compared with a reference model
grpo, rloo          micro batch, of completions               compared with a reference model, before the step
                    (TRL 0.14's: x completions of a prompt)
online_dpo, xpo     2 x micro batch, both generated           compared with a reference model, beside its graph
nash_md             micro batch, generated                    the same
gkd                 micro batch, generated or as it is        whole logits of a teacher, beside its graph
"""

from __future__ import annotations

from preflight.formulas.texts import forwards_of
from preflight.launch import LaunchPlan
from preflight.model import MASKED_LM
from preflight.values import replace
from preflight.versions.transformers import LOADS_CHECKPOINTS_DTYPE
from preflight.versions.trl import (
    CHUNKS_PAIRS,
    COMPARES_WITH_NOTHING,
    FUSES_HEAD,
    FUSES_LOGPROBS,
    LOADS_FP32,
)
from preflight.versions.trl_online import (
    LOADS_REFERENCE_BY_NAME,
    REFERENCE_IN_LOSS,
    SCORES_AHEAD,
    SWITCHES_ADAPTER_OFF,
)
from preflight.versions.trl_pairs import DPO_LOSES_LOGPROBS, DPO_SCORES_AGAIN

LANGUAGE_MODEL = (None, "sft", "pretrain", MASKED_LM)
"""Objectives whose loss is the next token's; a plan without one is taken to have it."""
OWN_PAIRS = "preference_pairs"
"""Of a script whose own step takes log-probabilities of pairs (preflight/scripts/uncounted/step_loss.py)."""
PAIRED = (
    "dpo", "ipo", "orpo", "cpo", "simpo", "reward", "scored_pairs", "scored_in_turn", "online_dpo", "xpo", OWN_PAIRS,
)  # fmt: skip
"""Objectives that put chosen and rejected answers into one forward, chosen first, padded to the longest of both
(trl/trainer/dpo_trainer.py:150-190, reward_trainer.py:196-220, experimental/orpo/orpo_trainer.py concatenated_inputs,
1.16.0)."""
GENERATED_PAIRS = ("online_dpo", "nash_md", "xpo")
"""Objectives of TRL whose every micro step generates two completions of its prompts, and compares them."""
ONLINE = ("grpo", "rloo", "ppo", *GENERATED_PAIRS)
"""Objectives that generate what they train on, and score it, before an update with it."""
GENERATES = ("distillation",)
"""Those that generate and are priced by nobody here."""
COMPARED = ("dpo", "ipo", "kto", "bco")
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


def is_of_torchtune(plan: LaunchPlan) -> bool:
    """Tell whether torchtune's own recipe of pairs runs."""
    return plan.trainer == "torchtune" and plan.objective == "dpo"


def is_taught(plan: LaunchPlan) -> bool:
    """Tell whether the whole distribution of a teacher is in the loss: of TRL's GKD, or torchtune's knowledge distillation."""
    return (plan.objective, plan.trainer) in (("gkd", "trl"), ("distillation", "torchtune"))


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


def steps_per_generation(plan: LaunchPlan) -> int:
    """Return the micro batches of a rank that one rollout fills; a batch of all ranks' completions is divided by TRL as here
    (trl/trainer/grpo_config.py:1098-1108 and rloo_config.py:661-671, 1.16.0; the same in 0.21 to 1.13)."""
    generation = plan.generation
    if generation is None:
        return plan.gradient_accumulation_steps
    if generation.batch_size is not None:
        return max(1, generation.batch_size // ((plan.micro_batch_size or 1) * plan.world_size))
    return generation.steps_per_generation or plan.gradient_accumulation_steps


def steps_of_rollout(plan: LaunchPlan) -> int:
    """Return the micro steps that train on one rollout, at least where rows are gone over more than once."""
    steps = steps_per_generation(plan)
    return steps if plan.trainer_facts.value("num_iterations", 1) == 1 else 2 * steps


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
    if trains_groups(plan):
        return plan.generation.num_generations if plan.generation is not None else 1
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


def trains_groups(plan: LaunchPlan) -> bool:
    """Tell whether a row of GRPO's micro batch is a prompt, all of whose completions are in one forward."""
    return _is_grpo_of_trl(plan) and not SCORES_AHEAD.holds_in(plan.versions)


def refers_in_loss(plan: LaunchPlan) -> bool:
    """Tell whether a reference model runs beside the graph of the policy's forward: of pairs, and of GRPO in two releases."""
    if plan.objective not in ONLINE:
        return True
    is_grpos = _is_grpo_of_trl(plan) and REFERENCE_IN_LOSS.holds_in(plan.versions)
    return is_grpos or trains_groups(plan) or plan.objective in GENERATED_PAIRS


def scores_in_loss(plan: LaunchPlan) -> bool:
    """Tell whether models that score run beside the graph of the policy's forward."""
    return trains_groups(plan) or plan.objective == "online_dpo"


def reference_of(plan: LaunchPlan) -> str:
    """Return what a plan is compared with: none, adapter_off, same (a second copy), or another model's id.

    Without one that is said, the trainer switches its adapter off, or loads the model a second time
    (trl/trainer/dpo_trainer.py:922-944, kto_trainer.py:919-940, 1.16.0).
    """
    if plan.reference_model == "none" and is_of_trl(plan) and plan.objective in PAIRED[:2]:
        runs_again = any(b.holds_in(plan.versions) for b in (DPO_SCORES_AGAIN, DPO_LOSES_LOGPROBS))
        return "adapter_off" if runs_again else "none"
    if plan.reference_model == "adapter_off" and _copies_beside_adapter(plan):
        return "same"
    if plan.reference_model is not None:
        return plan.reference_model
    if plan.objective == "grpo" and COMPARES_WITH_NOTHING.holds_in(plan.versions):
        return "none"
    if plan.objective not in (*COMPARED, *ONLINE):
        return "none"
    is_second = plan.adapter is None or _copies_beside_adapter(plan)
    return "same" if is_second else "adapter_off"


def second_copy(plan: LaunchPlan) -> LaunchPlan:
    """Return the plan of a reference model that is a second copy: without an adapter, and in fp32 where a trainer loads it by
    the name of a policy that the script loads itself."""
    copy = replace(plan, adapter=None)
    is_online = plan.objective in ("grpo", "rloo") and plan.trainer == "trl"
    is_handed_over = is_online and plan.script_facts.model_at is not None
    if not is_handed_over or not LOADS_REFERENCE_BY_NAME.holds_in(plan.versions):
        return copy
    is_checkpoints = LOADS_CHECKPOINTS_DTYPE.holds_in(plan.versions)
    is_wide = not is_checkpoints or LOADS_FP32.holds_in(plan.versions)
    return replace(copy, load_dtype="fp32") if is_wide else copy


def _is_grpo_of_trl(plan: LaunchPlan) -> bool:
    return plan.objective == "grpo" and plan.trainer == "trl"


def _copies_beside_adapter(plan: LaunchPlan) -> bool:
    """Tell whether GRPO loads a second copy although an adapter could be switched off."""
    shards = plan.engine == "zero3" or plan.is_fsdp
    return _is_grpo_of_trl(plan) and shards and not SWITCHES_ADAPTER_OFF.holds_in(plan.versions)

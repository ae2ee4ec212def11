"""Losses of TRL that read whole logits of pairs: ORPO, CPO and SimPO, which take log-probabilities, the first two beside a cross entropy.

Bytes per token and vocabulary entry, in units of the logits that the model returns (fp32 under autocast, where accelerate
copies outputs), counted on TRL's own trainers by tests/formulas/test_objectives.py, `torch` with rows one by one:

                    logits and loss, forward      backward     torch, 16 bits        torch, fp32
    ORPO, CPO       2                             3            2.5 and 3             2 and 4.5
    SimPO           1                             2            2 and 2               1 and 4
      (with a cpo_alpha, which is 1 unless it is said, as CPO)
    before 0.15, all logits at once: 3.5 and 3.5; SimPO 3 and 3
"""

from __future__ import annotations

from preflight.formulas.objective import (
    is_of_swift,
    num_sequences,
    takes_cross_entropy,
    trains_groups,
)
from preflight.formulas.user_loop import LossBytes
from preflight.launch import LaunchPlan
from preflight.units import ceil_div
from preflight.values import NamedTuple
from preflight.versions.ms_swift import GRPO_DIVIDES_IN_PLACE
from preflight.versions.trl import (
    DIVIDES_IN_PLACE,
    FLATTENS_LOGITS,
    FUSES_LOGPROBS,
    HOLDS_LOGITS_TWICE,
    LOGPROBS_ROW_BY_ROW,
    LOGS_ENTROPY,
)
from preflight.versions.trl_online import DIVIDES_BY_TEMPERATURE

ENTROPY_ROWS = 128
"""Tokens whose entropy is taken at once (trl/trainer/utils.py:532 entropy_from_logits, 1.13.0)."""


class CompletionRules(NamedTuple):
    """How GRPO takes log-probabilities of the whole logits of completions."""

    divides_apart: bool
    """By the temperature, into a copy."""
    divides_in_place: bool
    """By the temperature, where they lie."""
    holds_twice: bool
    """The model's own logits, or a flat copy of them, live beside those that are scored."""
    flattens: bool
    """The entropy is taken of a flat copy, a piece at a time."""
    takes_entropy: bool
    """It is taken at all."""
    keeps_softmax: bool = False
    """Each row's softmax is kept in fp32, too; else only in 16 bits, and fp32 logits themselves are."""


def completion_rules(plan: LaunchPlan) -> CompletionRules:
    """Return what TRL does in the release of a plan, or ms-swift, which takes no entropy unless it is asked to."""
    if is_of_swift(plan):
        in_place = GRPO_DIVIDES_IN_PLACE.holds_in(plan.versions)
        return CompletionRules(not in_place, in_place, False, False, False)
    rules = (DIVIDES_IN_PLACE, HOLDS_LOGITS_TWICE, FLATTENS_LOGITS, LOGS_ENTROPY)
    in_place, twice, flattens, entropy = (rule.holds_in(plan.versions) for rule in rules)
    is_divided = plan.objective == "rloo" or DIVIDES_BY_TEMPERATURE.holds_in(plan.versions)
    keeps = trains_groups(plan)
    return CompletionRules(is_divided and not in_place, in_place, twice, flattens, entropy, keeps)


def completion_loss_bytes(plan: LaunchPlan, size: int, casts_outputs: bool) -> LossBytes:
    """Return the bytes per logit of a completion where GRPO takes log-probabilities of whole logits, row by row.

    Counted on GRPOTrainer of TRL 0.15.2 to 0.18.2, 1.0.0 and 1.13.0 and RLOOTrainer of the last two: 4 and 4 in 16 bits (8
    where logits are divided in place), 8 and 16 in fp32 (6 and 16 where they are not divided; 8 and 8 where their softmax is kept, in 0.14); for the entropy, a sequence is copied three times from 0.20 on,
    and all of them once from 0.23 on.
    """
    outputs = 4 if casts_outputs else size
    kept = (
        outputs if outputs == 4 else 2 * outputs
    )  # 16 bits are scored by a softmax, which is saved
    rows = num_sequences(plan)
    rules = completion_rules(plan)
    # undivided ones in fp32 are scored where they lie, beside the exponentials of one row
    is_whole = rules.divides_apart or rules.divides_in_place or rules.keeps_softmax or outputs != 4
    forward = 2 * outputs if is_whole else outputs + ceil_div(outputs, rows)
    if rules.holds_twice:
        forward = kept + outputs
    elif rules.flattens:
        forward = kept  # divided ones are as flat as they need to be
    elif rules.takes_entropy:
        forward = max(forward, kept + ceil_div(3 * outputs, rows))
    source = "trl/trainer/grpo_trainer.py _get_per_token_logps; utils.py selective_log_softmax, entropy_from_logits (0.18.2, 1.13.0)"
    backward = 16 if outputs == 4 else 8 if rules.divides_in_place else 4
    if rules.keeps_softmax:
        backward = 2 * outputs
    return LossBytes(max(size + outputs, forward), backward, outputs, source)


def entropy_bytes(plan: LaunchPlan, outputs: int, entries: int, vocab: int) -> int:
    """Return what the entropy of a piece of a flat copy of logits takes beside it: three times the piece."""
    if is_of_swift(plan) or not FLATTENS_LOGITS.holds_in(plan.versions):
        return 0
    return 3 * outputs * min(entries, ENTROPY_ROWS * vocab)


def pair_loss_bytes(plan: LaunchPlan, size: int, casts_outputs: bool) -> LossBytes:
    """Return the bytes per logit of a plan whose head makes logits of `size` bytes."""
    outputs = 4 if casts_outputs else size
    casting = size + outputs if size != outputs else 0
    takes_both = takes_cross_entropy(plan)
    forward, backward = (2 * outputs, 3 * outputs) if takes_both else (outputs, 2 * outputs)
    source = "trl/experimental/orpo, cpo; kernels/logprob_entropy.py:146-260 (1.16.0)"
    if not LOGPROBS_ROW_BY_ROW.holds_in(plan.versions) and not is_of_swift(plan):
        # logits, a copy of all but the last position and its softmax; of the chosen half, a softmax for the cross entropy
        whole = ceil_div((7 if takes_both else 6) * outputs, 2)
        source = (
            "trl/trainer/orpo_trainer.py, cpo_trainer.py get_batch_logps (0.8.6, 0.9.6, 0.12.2)"
        )
        return LossBytes(max(casting, whole), whole, outputs, source)
    # ms-swift 3.5 to 4.6 asks for TRL 0.15 to 0.29
    if is_of_swift(plan) or not FUSES_LOGPROBS.holds_in(plan.versions):
        source = "trl/trainer/utils.py selective_log_softmax, row by row (0.19.1, 1.13.0)"
        if outputs == 4:
            backward = 18 if takes_both else 16
        else:
            forward = 5 if takes_both else 4
    return LossBytes(max(casting, forward), backward, outputs, source)

"""Log-probabilities of whole logits, compared with those of a reference model: what a step of DPO takes, release by release.

A policy's forward ends in log-probabilities of its logits; some of that lives while the reference model runs, which ends
in the same way without a graph. In units of the logits that a model returns, counted on TRL's own trainers by
tests/formulas/test_older_objectives.py, n sequences:

    TRL            policy's forward    beside the reference    reference's head    then          backward
    0.7, 0.8       3                   2                       3                                 3
    0.9 to 0.11    3                   2.5                     3                                 3
    0.12, 0.13     3                   1                       3                                 3
    0.14           2                   1                       2                                 3
    0.15 to 0.28   1.5  (2.5)          1                       1.5                               4  (2)
    0.29 to 1.5    2 + 1/n  (3)        2  (3)                  2 + 1/n  (2 + 2/n)  4.5 (5.5)     4  (2)
    1.6 to 1.13    1 + 1/n  (2)        1  (2)                  1 + 1/n  (1 + 2/n)  3 (4)         4  (2)
    LLaMA-Factory  3                   2                       3                                 3
      its kto      3                   2                       4                                 3
      before 0.9.1 3                   1                       3                                 3
    1.14           1                   1                       1                   2.5           2
    ms-swift       1 + 1/n  (2)        1                       1 + 1/n  (1 + 2/n)                4  (2)
    torchtune      3                   1                       3                                 3
      its full DPO 2.5                 1                       2                                 3
    BCO            3  (2)              2  (2)                  2                                 4  (2)
    online DPO     1 + c               c                       1 + c                             3c, or 1 + c

c: the share of a row that is its completion. BCO's columns are of 16 bits (and of 32).
torchtune with an adapter holds the reference's logits beside them: to the next one's, or from 0.7 on to the next step's own.
In brackets where the logits have 16 bits: each row's softmax is kept. Without padding n is 1, and of 2/n there is one.
"""

from __future__ import annotations

from math import ceil

from preflight.formulas.objective import (
    COMPARED,
    GENERATED_PAIRS,
    OF_LLAMAFACTORY,
    is_of_llamafactory,
    is_of_swift,
    is_of_torchtune,
    is_of_trl,
    num_sequences,
    reference_of,
)
from preflight.formulas.objectives.pair_losses import entropy_bytes
from preflight.formulas.precision import precision_of, uses_autocast
from preflight.formulas.tensor_parallel import local_vocab
from preflight.formulas.user_loop import loss_rule
from preflight.launch import LaunchPlan
from preflight.launch_facts import StepLoss
from preflight.model import ModelSpec
from preflight.units import ceil_div
from preflight.values import NamedTuple
from preflight.versions.llamafactory import KTO_HANDS_ON_LOGITS
from preflight.versions.torchtune import EMPTIES_REFERENCE
from preflight.versions.trl import FUSES_LOGPROBS
from preflight.versions.trl_pairs import (
    DPO_CACHES_KEYS,
    DPO_COPIES_LOGITS,
    DPO_DROPS_LOGITS,
    DPO_KEEPS_HIDDEN_STATES,
    DPO_ROLLS_LABELS,
    DPO_SCORES_ROWS,
    DPO_TAKES_ENTROPY,
    DPO_TAKES_NLL,
    KTO_SCORES_WHOLE,
)

LLAMAFACTORY = "llamafactory/train/dpo/trainer.py concatenated_forward; trainer_utils.py get_batch_logps (0.9.4)"
LLAMAFACTORY_KTO = "llamafactory/train/kto/trainer.py concatenated_forward (0.8.3 to 0.9.5)"
SWIFT = (
    "swift/rlhf_trainers/{dpo,kto}_trainer.py, rlhf_mixin.py get_per_token_logps (3.5.0 to 4.6.0)"
)
OF_STEP = "a step of the script's own"
ONLINE_DPO = "trl/experimental/online_dpo/online_dpo_trainer.py _forward (1.16.0), trainer/online_dpo_trainer.py (0.14.0)"
BCO = "trl/experimental/bco/bco_trainer.py forward, get_batch_logps (1.13.0), trainer/bco_trainer.py (0.24.0)"
TORCHTUNE = "recipes/lora_dpo_distributed.py concatenated_forward, train (0.3.1 to 0.7.0); rlhf/sequence_processing.py"

TORCHTUNE_FULL = "recipes/full_dpo_distributed.py concatenated_forward, train (0.6.1, 0.7.0)"


class Scoring(NamedTuple):
    """How a trainer turns whole logits into log-probabilities of pairs."""

    reads: str
    """all logits at once, chosen and rejected apart, rows one by one, those of completions at once, a kernel that keeps nothing of its own, or a step
    that was read."""
    shift: str
    """cut: the last position is cut off, and what reads all of the rest copies it; copied: the trainer itself
    copies it; rolled: labels are moved, and logits stay as they are."""
    drops_logits: bool
    """The logits are gone, but for what a graph holds of them, when the reference runs."""
    takes_nll: bool = False
    """The cross entropy of the chosen half is taken beside it, and lives as long."""
    copies_rows: bool = False
    """Rows of chosen and of rejected answers are copied when they are scored, and those copies are what lives on."""
    takes_means: bool = False
    """The logits of completions are copied to take their mean, a half of the rows at a time."""
    takes_entropy: bool = False
    """So is, when the reference has run and its logits are still there, their entropy."""
    keeps_hidden_states: bool = False
    """The hidden states of every layer live as long as the logits."""
    caches_keys: bool = False
    """So do the keys and values of every layer."""
    scores_others: bool = False
    """As many rows, of prompts and answers that do not belong together, are scored after the first, without a graph."""
    casts_to_fp32: bool = False
    """The trainer itself casts the logits to fp32."""
    keeps_reference: bool = False
    """The reference's logits live until there are new ones."""
    lets_go_before: bool = False
    """And are gone when the reference runs again."""
    source: str = "trl/trainer/dpo_trainer.py"


class ScoringBytes(NamedTuple):
    """Bytes of log-probabilities and of their logits."""

    forward: int
    """At most in the policy's own forward, its logits among them."""
    beside: int
    """Alive while the reference model runs."""
    reference: int
    """At most where the reference's forward ends."""
    after: int
    """At most when both have run; 0 where nothing is taken then."""
    backward: int
    evaluation: int
    """At most without a graph."""
    kept: int
    """Held by a loop until its next step."""
    waiting: int = 0
    """Of another forward, whose gradient is taken when that of the last has gone through its layers."""


def scoring_of(plan: LaunchPlan) -> Scoring | None:
    """Return how a plan's trainer takes log-probabilities of whole logits; None where it does not, or that is not known."""
    own = plan.script_facts.step_loss
    is_checkpointed = plan.activation_checkpointing != "none"
    if own is not None:
        caches = not is_checkpointed if own.caches_keys is None else own.caches_keys
        return Scoring(
            OF_STEP, "cut", True, keeps_hidden_states=own.asks_layers > 0,
            caches_keys=caches, source=own.place.where,
        )  # fmt: skip
    if is_of_llamafactory(plan) and plan.objective in OF_LLAMAFACTORY:
        # logits of both halves are handed on, in fp32 (0.9.4)
        is_kto = plan.objective == "kto"
        drops = is_kto and not KTO_HANDS_ON_LOGITS.holds_in(plan.versions)
        source = LLAMAFACTORY_KTO if is_kto else LLAMAFACTORY
        return Scoring("all", "cut", drops, scores_others=is_kto, casts_to_fp32=True, source=source)
    if plan.loss != "full_logits":
        return None
    if is_of_torchtune(plan):
        is_emptied = EMPTIES_REFERENCE.holds_in(plan.versions)
        if reference_of(plan) == "same":
            return Scoring("halves", "cut", True, casts_to_fp32=True, source=TORCHTUNE_FULL)
        return Scoring(
            "all", "cut", True, casts_to_fp32=True, keeps_reference=True,
            lets_go_before=is_emptied, source=TORCHTUNE,
        )  # fmt: skip
    if is_of_swift(plan) and plan.objective in COMPARED:
        return Scoring("rows", "rolled", True, source=SWIFT)
    if not is_of_trl(plan):
        return None
    has = plan.versions
    if plan.objective == "kto" and KTO_SCORES_WHOLE.holds_in(has):
        return Scoring("rows", "cut", False, takes_means=True, takes_entropy=True)
    if plan.objective == "bco":
        return Scoring("rows", "cut", False, copies_rows=True, source=BCO)
    if plan.objective in GENERATED_PAIRS:
        return Scoring("completions", "cut", True, source=ONLINE_DPO)
    if plan.objective not in ("dpo", "ipo"):
        return None
    reads = "rows" if DPO_SCORES_ROWS.holds_in(has) else "all"
    shift = "cut"
    if DPO_ROLLS_LABELS.holds_in(has):
        shift = "rolled"
    elif DPO_COPIES_LOGITS.holds_in(has):
        shift = "copied"
    drops, takes_entropy = DPO_DROPS_LOGITS.holds_in(has), DPO_TAKES_ENTROPY.holds_in(has)
    return Scoring(
        reads="kernel" if FUSES_LOGPROBS.holds_in(has) else reads,
        shift=shift,
        drops_logits=drops,
        takes_nll=DPO_TAKES_NLL.holds_in(has),
        takes_means=drops or takes_entropy,
        takes_entropy=takes_entropy,
        keeps_hidden_states=DPO_KEEPS_HIDDEN_STATES.holds_in(has),
        caches_keys=DPO_CACHES_KEYS.holds_in(has),
    )


def logits_of_pairs(
    plan: LaunchPlan, model: ModelSpec, tokens: int, scoring: Scoring
) -> ScoringBytes:
    """Return what a forward over some tokens takes from its logits on."""
    size = precision_of(plan, model).bytes_of("logits")
    upcasts = loss_rule(plan, model.model_type).upcasts_in_model or scoring.casts_to_fp32
    outputs = 4 if upcasts or uses_autocast(plan) else size
    vocab = local_vocab(plan, model.vocab_size)
    own = plan.script_facts.step_loss
    if scoring.reads == OF_STEP and own is not None:
        return _of_step(own, size, outputs, tokens * vocab)
    return scoring_bytes(plan, scoring, size, outputs, tokens * vocab, vocab)


def _of_step(own: StepLoss, size: int, outputs: int, entries: int) -> ScoringBytes:
    """Return what a step of the script's own takes of so many logits (preflight/scripts/uncounted/step_loss.py)."""
    taken = own.wide if outputs == 4 else own.narrow
    casting = (size + outputs if size != outputs else 0) * entries
    forward, beside, after, backward, kept, evaluation, waiting = (
        ceil(each * entries) for each in taken
    )
    return ScoringBytes(
        max(casting, forward),
        beside,
        max(casting, outputs * entries),
        after,
        backward,
        max(casting, evaluation),
        kept,
        waiting,
    )


def scoring_bytes(
    plan: LaunchPlan, scoring: Scoring, size: int, outputs: int, entries: int, vocab: int
) -> ScoringBytes:
    """Return what a step's logits take: a head of `size` bytes each, `outputs` bytes as the model returns them."""
    # what ms-swift and TRL put into one row is scored as one
    rows = 1 if plan.sequence_kind == "packed" else num_sequences(plan)
    compares = reference_of(plan) != "none"
    logits = outputs * entries
    row = ceil_div(logits, rows)
    casting = size * entries + logits if size != outputs else 0
    copied = logits if scoring.shift == "copied" else 0
    is_wide = outputs == 4
    # all at once: a softmax is kept
    graph = scored = alone = logits
    backward = 3 * logits
    if scoring.reads == "all" and scoring.shift == "cut":
        scored, alone = 2 * logits, 2 * logits
    elif scoring.reads == "halves":  # the first one's softmax beside copy and softmax of the second
        scored, alone = 3 * logits // 2, logits
    if scoring.reads == "rows":
        # of 16 bits the row before lives until there is another
        graph, scored, alone = (0, row, row) if is_wide else (logits, logits, min(2, rows) * row)
        backward = 4 * logits if is_wide else 2 * logits
    elif scoring.reads == "completions":
        return _of_completions(plan, size, outputs, entries)
    elif scoring.reads == "kernel":
        graph, scored, alone, backward = 0, 0, 0, 2 * logits
    half = logits // 2 if scoring.takes_means else 0
    # what a graph keeps of rows in fp32, or for a kernel, are the logits themselves, or their copy
    held = graph + (0 if scoring.drops_logits else logits + copied)
    held = max(held, logits)
    if scoring.copies_rows:
        held, scored, alone = 2 * logits, max(scored, graph + logits), logits
    nll = logits // 2 if scoring.takes_nll else 0
    last = logits + copied + (0 if scoring.takes_entropy else half)
    policy = max(casting, logits + copied + scored, last + graph)
    reference = max(casting, logits + copied + alone, last)
    after = 0
    if scoring.takes_entropy:
        flat = logits if scoring.shift == "cut" and scoring.reads != "kernel" else 0
        pieces = entropy_bytes(plan, outputs, entries, vocab) if scoring.reads != "kernel" else 0
        after = held + (logits + copied if compares else 0) + max(flat + pieces, half)
    kept = logits if scoring.keeps_reference and compares else 0
    return ScoringBytes(
        policy,
        held + nll,
        reference,
        after,
        backward + kept,
        (logits + copied if compares and not scoring.drops_logits else 0) + reference,
        kept,
    )


def _of_completions(plan: LaunchPlan, size: int, outputs: int, entries: int) -> ScoringBytes:
    """Return the bytes that a softmax of the logits of completions takes, which is what a graph keeps of them."""
    generation, logits = plan.generation, outputs * entries
    longest = plan.seq_len or 1
    answer = longest if generation is None else min(generation.max_completion_len, longest)
    part = ceil_div(logits * answer, longest)
    casting = size * entries + logits if size != outputs else 0
    most = max(casting, logits + part)
    backward = max(3 * part, part + logits)
    return ScoringBytes(most, part, most, 0, backward, most, 0)

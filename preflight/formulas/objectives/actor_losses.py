"""Log-probabilities of verl's actor: what its logits take where completions are scored, and in an update.

In units of the 16-bit logits of a micro batch, a the part of them that belongs to answers; in brackets with the entropy,
which scoring always takes. Counted on verl's own functions by tests/formulas/verl_steps.py:

    release      rows      scoring    update, forward     backward
    to 0.7       packed    1          1      (1)          4    (4)
                 padded    1 + 4a     1 + a  (1 + 7a)     2    (14a)
    0.8          packed    1          1      (1)          4    (4)
                 padded    5          3      (7)          5    (13)
    0.9.0        packed    2          2      (2)          2    (3)
                 padded    6          4      (8)          5    (13)
    0.9.1        packed    1          1      (1)          1    (3)
                 padded    5          3      (7)          5    (13)

Four units are what autograd copies of a gradient that comes through a view which was divided in place. The entropy of
packed rows is compiled and makes nothing as large as logits; that of padded ones is fp32 under autocast, tensor by tensor.
Packed rows whose entropy is not compiled take 4 more in scoring, and of an update with it 6 more forward and 13 or 14
backward.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil

from preflight.bool_words import is_true
from preflight.formulas.objective import ONLINE
from preflight.launch import LaunchPlan
from preflight.memory import Moment
from preflight.values import NamedTuple
from preflight.versions.verl import (
    DIVIDES_APART,
    DROPS_OUTPUTS,
    LEAVES_UNIT_TEMPERATURE,
    SCORES_IN_ENGINES,
    TAKES_ENTROPY_IF_ASKED,
)

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
SOURCE = "verl/workers/actor/dp_actor.py _forward_micro_batch (0.2.0 to 0.7.1); engine/fsdp/transformer_impl.py (0.8.0 to 0.9.1)"
RELEASES = ("0.2", "0.4", "0.8", "0.9.0", "0.9.1")
"""One of every way to score, for a launch whose release nobody says."""


class ActorUnits(NamedTuple):
    """What logits take, in units of themselves."""

    scoring: float
    forward: float
    backward: float


def trains_actor(plan: LaunchPlan) -> bool:
    """Tell whether verl's own actor trains on completions."""
    return plan.launcher == "verl" and plan.objective in ONLINE


def runs_on_engine(plan: LaunchPlan) -> bool:
    """Tell whether verl's FSDP engine takes the loss of answers that are given (workers/utils/losses.py sft_loss)."""
    return plan.launcher == "verl" and plan.trainer_facts.value("verl_engine") is True


def kept_outputs(plan: LaunchPlan, hidden_size: int, size: int) -> int:
    """Return the bytes per token that verl's engine keeps of every micro batch before the one at work: a log-probability and
    an entropy, and under an adapter what their graphs end at, the embeddings that were made to ask for gradients and theirs.
    """
    is_engine = runs_on_engine(plan) or SCORES_IN_ENGINES.holds_in(plan.versions)
    is_said = "verl" in plan.versions  # else it may be the release that does
    if is_said and (not is_engine or DROPS_OUTPUTS.holds_in(plan.versions)):
        return 0
    return 8 + (2 * size * hidden_size if plan.adapter is not None else 0)


def pads_to_the_cap(plan: LaunchPlan) -> bool:
    """Tell whether every row surely goes through verl's actor as long as rows may be: padding that is not taken off.

    A rollout is padded to its longest (vllm_rollout_spmd.py generate_sequences, 0.2 to 0.9.1); the engine of 0.8 takes
    it off again whatever `use_remove_padding` says.
    """
    said = plan.versions.get("verl")
    is_before = said is not None and not SCORES_IN_ENGINES.holds_in({"verl": said})
    return trains_actor(plan) and plan.sequence_kind == "padded" and is_before


def update_bytes(
    plan: LaunchPlan, size: int, entries: int
) -> Iterable[tuple[str, int, frozenset[Moment]]]:
    """Yield what the logits of an update take, with its name and moments: `entries` logits of `size` bytes."""
    units, whole = actor_units(plan), size * entries
    for name, number, moment in (
        ("logits and log-probabilities, forward", units.forward, Moment.LOSS_FORWARD),
        ("logits and log-probabilities, backward", units.backward, Moment.LOSS_BACKWARD),
        ("gradient of the logits", 1, Moment.HEAD_BACKWARD),
    ):
        yield name, ceil(number * whole), frozenset({moment})


def actor_units(plan: LaunchPlan) -> ActorUnits:
    """Return the most that a micro batch's logits take; of every release where nobody says which."""
    if "verl" in plan.versions:
        return _in_release(plan, plan.versions["verl"])
    return ActorUnits(*map(max, zip(*(_in_release(plan, r) for r in RELEASES), strict=True)))


def _in_release(plan: LaunchPlan, release: str) -> ActorUnits:
    versions, generation = {"verl": release}, plan.generation
    said = plan.trainer_facts
    entropy = not TAKES_ENTROPY_IF_ASKED.holds_in(versions)
    weight = said.value(f"{ACTOR}.entropy_coeff", 0)
    entropy = entropy or weight not in (0, 0.0, "0", "0.0") or asks(plan, "calculate_entropy")
    entropy = entropy and trains_actor(plan)
    divides = DIVIDES_APART.holds_in(versions)
    if LEAVES_UNIT_TEMPERATURE.holds_in(versions):
        divides = str(said.value(f"{ROLLOUT}.temperature", 1.0)) not in ("1", "1.0")
    more = 1 if divides else 0
    if plan.sequence_kind == "packed":
        eager = 0 if _compiles(plan) else 1
        apart = DIVIDES_APART.holds_in(versions)
        backward = (1 + more) if apart else 4
        if entropy:
            summed = apart or not TAKES_ENTROPY_IF_ASKED.holds_in(versions)
            backward = (13 if summed else 14) if eager else (3 if apart else 4)
        return ActorUnits(1 + more + 4 * eager, 1 + more + 6 * eager * entropy, backward)
    if SCORES_IN_ENGINES.holds_in(versions) or not trains_actor(plan):
        return ActorUnits(5 + more, (7 if entropy else 3) + more, 13 if entropy else 5)
    answers = 1.0
    if generation is not None and plan.seq_len:
        answers = min(1.0, generation.max_completion_len / plan.seq_len)
    if entropy:
        return ActorUnits(1 + 4 * answers, 1 + 7 * answers, max(2, 14 * answers))
    return ActorUnits(1 + 4 * answers, 1 + answers, 2)


def _compiles(plan: LaunchPlan) -> bool:
    """Tell whether the entropy is taken by a kernel that makes nothing as large as logits; one in chunks is at most what it is without."""
    names = ("use_torch_compile", "fsdp_config.use_torch_compile")
    said = (str(plan.trainer_facts.value(f"{ACTOR}.{name}", True)).lower() for name in names)
    return "false" not in said and not asks(plan, "entropy_from_logits_with_chunking")


def asks(plan: LaunchPlan, name: str) -> bool:
    """Tell whether a switch of the actor's is on."""
    return is_true(plan.trainer_facts.value(f"{ACTOR}.{name}"))

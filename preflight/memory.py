"""Memory terms, the phases they are alive in, and what they add up to; peaks.py adds them up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from functools import cached_property, lru_cache
from typing import TypeVar

from preflight.errors import BadInput
from preflight.units import format_gib
from preflight.values import dataclass

T = TypeVar("T")


class Phase(Enum):
    """The parts of a run in which a rank can die, in order."""

    LOAD = "load"
    WEIGHT_SYNC = "weight_sync"
    ROLLOUT = "rollout"
    SCORING = "scoring"
    FORWARD = "forward"
    LOSS = "loss"
    BACKWARD = "backward"
    OPTIMIZER_STEP = "optimizer_step"
    SECOND_STEP = "second_step"
    EVALUATION = "evaluation"
    SAVE = "save"

    @classmethod
    def _missing_(cls, value: object) -> Phase | None:
        return cls.LOSS if value == OLD_LOSS else None


OLD_LOSS = "turn"
"""What the loss was called before 0.2: read still, and written beside it as a key for one version."""


def by_phase(values: Mapping[Phase, T]) -> dict[str, T]:
    """Return values by the names of their phases, the loss by its old name too."""
    named = {phase.value: value for phase, value in values.items()}
    if Phase.LOSS in values:
        named[OLD_LOSS] = values[Phase.LOSS]
    return named


def phase_names(phases: Iterable[Phase]) -> list[str]:
    """Return the names of phases, the loss by its old name too."""
    return list(by_phase({phase: phase for phase in phases}))


class Moment(Enum):
    """A point of a phase at which bytes can peak: what is alive together is added, moments are compared.

    The backward pass has three, because saved activations shrink while gradients grow: with plain
    layers the sum is linear in between, so its largest value is at one of the ends.
    """

    LOAD = "load"
    PREPARE = "prepare"
    """Sharding, casting and moving a loaded model; part of the load phase."""
    TOWER_FORWARD = "tower_forward"
    """A vision tower's, before anything of the language model is alive."""
    FORWARD = "forward"
    """In the last layer: all saved activations and this layer's transients."""
    LOSS_FORWARD = "loss_forward"
    LOSS_BACKWARD = "loss_backward"
    HEAD_BACKWARD = "head_backward"
    """The head's weight gradient, after the loss and before any layer."""
    LAST_LAYER_BACKWARD = "last_layer_backward"
    """The first layer to run backward: all saved activations, no layer's gradients yet."""
    FIRST_LAYER_BACKWARD = "first_layer_backward"
    """The last layer to run backward: all gradients but the embedding's, one layer's activations."""
    TOWER_BACKWARD = "tower_backward"
    """A vision tower's, between the language model's layers and its embedding."""
    EMBEDDING_BACKWARD = "embedding_backward"
    OPTIMIZER_STEP = "optimizer_step"
    EVALUATION = "evaluation"
    SAVE = "save"
    WEIGHT_SYNC = "weight_sync"
    """Online RL: an inference engine gets the policy's weights."""
    ROLLOUT = "rollout"
    """Online RL: completions are generated."""
    SCORING = "scoring"
    """Online RL: log-probabilities and rewards of the completions, before the first update with them."""

    # Members are equal by identity; Enum's own hash is a Python call for every look-up.
    __hash__ = object.__hash__


MOMENTS = tuple(Moment)
"""All of them; walking over the class itself takes three times as long."""

PHASE_MOMENTS: dict[Phase, tuple[Moment, ...]] = {
    Phase.LOAD: (Moment.LOAD, Moment.PREPARE),
    Phase.WEIGHT_SYNC: (Moment.WEIGHT_SYNC,),
    Phase.ROLLOUT: (Moment.ROLLOUT,),
    Phase.SCORING: (Moment.SCORING,),
    Phase.FORWARD: (Moment.FORWARD, Moment.TOWER_FORWARD),
    Phase.LOSS: (Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD),
    Phase.BACKWARD: (
        Moment.LAST_LAYER_BACKWARD,
        Moment.FIRST_LAYER_BACKWARD,
        Moment.EMBEDDING_BACKWARD,
        Moment.TOWER_BACKWARD,
    ),
    Phase.OPTIMIZER_STEP: (Moment.OPTIMIZER_STEP,),
    Phase.EVALUATION: (Moment.EVALUATION,),
    Phase.SAVE: (Moment.SAVE,),
}
"""The second step has no moments of its own: it is forward, loss or backward with what the first step left."""

TOWER_MOMENTS = (Moment.TOWER_FORWARD, Moment.TOWER_BACKWARD)
STEP_MOMENTS = tuple(
    moment
    for phase in (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD)
    for moment in PHASE_MOMENTS[phase]
    if moment not in TOWER_MOMENTS
)
"""Of the language model: what is alive through all of them is alive while a tower runs."""
LAYER_BACKWARD = frozenset({Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD})
"""While layers run backward."""
ALL_SAVED = frozenset(
    {
        Moment.FORWARD,
        Moment.LOSS_FORWARD,
        Moment.LOSS_BACKWARD,
        Moment.HEAD_BACKWARD,
        Moment.LAST_LAYER_BACKWARD,
    }
)
"""While every layer's activations are alive, in the forward and before the backward has passed the last layer."""
EVERY_STEP = (*STEP_MOMENTS, *TOWER_MOMENTS)
AROUND_TOWER = frozenset({Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD})


@lru_cache(maxsize=256)
def with_tower_moments(moments: frozenset[Moment]) -> frozenset[Moment]:
    """Return the moments of a term with those of a tower that lie between them."""
    more = set(moments)
    if moments.issuperset(STEP_MOMENTS):
        more.add(Moment.TOWER_FORWARD)
    if moments >= AROUND_TOWER:
        more.add(Moment.TOWER_BACKWARD)
    return frozenset(more)


ONLINE = (Phase.WEIGHT_SYNC, Phase.ROLLOUT, Phase.SCORING)
"""Phases of online RL alone: there where something is alive in no other."""
ONLINE_MOMENTS = frozenset(PHASE_MOMENTS[phase][0] for phase in ONLINE)

FIRST_STEP = (Phase.FORWARD, Phase.LOSS, Phase.BACKWARD)
"""Phases before the optimizer states exist."""


ALWAYS = frozenset(Moment) - {Moment.LOAD, Moment.PREPARE}
"""From the prepared model to the last save."""


class Level(Enum):
    """Which counter a term belongs to. Each level contains the one before it."""

    ALLOCATED = "allocated"
    """Live tensors: `torch.cuda.max_memory_allocated`."""
    RESERVED = "reserved"
    """What the caching allocator holds beyond them: `max_memory_reserved`."""
    DEVICE = "device"
    """Context, NCCL, workspaces outside torch: what the driver reports."""
    HOST = "host"
    """Host memory of one node (all its ranks together)."""

    __hash__ = object.__hash__  # as above


HOST_ALLOWANCE = "host: processes"
"""The term of level host that is an allowance and no count (hooks/memory_host.py): alone it refuses nothing."""


@dataclass(frozen=True)
class MemoryTerm:
    """Some bytes with a name, on one rank (on one node for Level.HOST), and when they are alive."""

    name: str
    num_bytes: int
    moments: frozenset[Moment]
    formula: str = ""
    """The arithmetic with its numbers, checkable by hand: `8,030,261,248 / 8 * 4`."""
    source: str = ""
    """A file and line, a paper's section, or the measurement the constant was fitted from."""
    level: Level = Level.ALLOCATED
    from_second_step: bool = False
    """True for what the first optimizer step creates: absent from the first forward and backward."""
    stream: str = "default"
    """The CUDA stream whose pool holds it; the caching allocator never lends blocks between streams."""
    least_bytes: int | None = None
    """The lower end where `num_bytes` is the middle of a range: a refusal counts on no more than this."""

    def __post_init__(self) -> None:
        if not isinstance(self.num_bytes, int) or self.num_bytes < 0:
            raise BadInput.one(f"memory term {self.name!r} has num_bytes {self.num_bytes!r}")
        object.__setattr__(self, "moments", with_tower_moments(frozenset(self.moments)))

    @property
    def own_moments(self) -> frozenset[Moment]:
        """The moments without a tower's that follow from them; a tower's own terms have no others."""
        return self.moments.difference(TOWER_MOMENTS) or self.moments

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases the term is alive in, in order."""
        found = [
            phase
            for phase, moments in PHASE_MOMENTS.items()
            if any(moment in self.moments for moment in moments)
        ]
        in_step = any(moment in self.moments for moment in EVERY_STEP)
        if self.from_second_step:
            found = [p for p in found if p not in FIRST_STEP]
        if in_step:
            found.append(Phase.SECOND_STEP)
        order = list(Phase)
        return tuple(sorted(found, key=order.index))


def at_most(
    name: str, num_bytes: int, moments: Iterable[Moment], formula: str, source: str
) -> MemoryTerm:
    """Return a term of the most that something takes which nobody counted."""
    return MemoryTerm(f"{name}, at most", num_bytes, frozenset(moments), formula, source)


@dataclass(frozen=True)
class PhasePeak:
    """The largest sum of one phase, and the moment it is reached."""

    phase: Phase
    moment: Moment
    allocated_bytes: int
    reserved_bytes: int
    device_bytes: int
    least_outside_bytes: int
    """What lies outside torch at least: the lower ends of its ranges."""

    @property
    def needed_bytes(self) -> int:
        """What no allocator can save: live tensors, and what lies outside torch at least."""
        return self.allocated_bytes + self.least_outside_bytes


@dataclass(frozen=True)
class MemoryEstimate:
    """The terms of one rank and the peaks they make."""

    terms: tuple[MemoryTerm, ...]
    peaks: tuple[PhasePeak, ...]
    """One per phase, in order; phases without terms are left out."""
    host_peak_bytes_per_node: int
    host_peak_phase: Phase | None
    unknown: tuple[str, ...] = ()
    """Plan fields that terms needed and nobody gave; the sums above are then a lower bound."""

    def __repr__(self) -> str:
        """Return the peak in a line; `terms` and `peaks` are the whole."""
        if not self.peaks:
            return f"<MemoryEstimate: nothing estimated, unknown: {', '.join(self.unknown)}>"
        return (
            f"<MemoryEstimate: {format_gib(self.device_peak_bytes)} of the device, {format_gib(self.allocated_peak_bytes)}"
            f" in tensors, {len(self.terms)} terms; peak in {self.peak.phase.value}>"
        )

    @property
    def peak(self) -> PhasePeak:
        """The phase with the largest allocated sum (the first of equals)."""
        return max(self.peaks, key=lambda peak: peak.allocated_bytes)

    @property
    def allocated_peak_bytes(self) -> int:
        return self.peak.allocated_bytes

    @property
    def reserved_peak_bytes(self) -> int:
        return max(peak.reserved_bytes for peak in self.peaks)

    @cached_property
    def device_peak_bytes(self) -> int:
        return max(peak.device_bytes for peak in self.peaks)

    @cached_property
    def needed_bytes(self) -> int:
        """What no allocator can save at the worst moment; 0 where nothing was estimated."""
        return max((peak.needed_bytes for peak in self.peaks), default=0)

    @property
    def host_counted_bytes(self) -> int:
        """What a node holds at its peak without the allowance for processes."""
        allowed = sum(t.num_bytes for t in self.terms if t.name == HOST_ALLOWANCE)
        return max(0, self.host_peak_bytes_per_node - allowed)

    def terms_at(self, moment: Moment, second_step: bool = True) -> tuple[MemoryTerm, ...]:
        """Return the terms alive at a moment, largest first."""
        alive = [
            t
            for t in self.terms
            if moment in t.moments
            and (second_step or not t.from_second_step or moment not in EVERY_STEP)
        ]
        return tuple(sorted(alive, key=lambda t: -t.num_bytes))

    def terms_of(self, peak: PhasePeak) -> tuple[MemoryTerm, ...]:
        """Return the terms that make the peak of a phase, largest first; without optimizer states in the first step."""
        return self.terms_at(peak.moment, peak.phase not in FIRST_STEP)

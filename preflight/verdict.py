"""Does it fit: four answers, and the comparisons that decide between them, on the device and on the host."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from preflight.device import DeviceSpec
from preflight.errors import Problem
from preflight.memory import Level, MemoryEstimate, Phase
from preflight.units import format_gib
from preflight.values import dataclass, replace

MARGIN_SHARE = 0.055
"""Share of the capacity kept free before a launch counts as fitting; a policy may set another share.

What nine of ten measured runs of all engines needed beyond their prediction, at the highest level that they have,
where each was predicted with what is fitted to other sources alone (preflight/derive/pages/leave_one_out.py, which a
test holds this to; docs/accuracy.md, November 2026).
"""
ENGINE_MARGIN_SHARES = {"single": 0.06, "fsdp1": 0.085}
"""Engines whose own runs are enough to say that they need more."""


def margin_share_of(engine: str) -> float:
    """Return the share of the capacity that is kept free under an engine."""
    return ENGINE_MARGIN_SHARES.get(engine, MARGIN_SHARE)


class Answer(Enum):
    FITS = "fits"
    TIGHT = "tight"
    DOES_NOT_FIT = "does_not_fit"
    UNKNOWN = "unknown"

    @property
    def words(self) -> str:
        """The answer as a report says it."""
        return self.value.replace("_", " ")


@dataclass(frozen=True)
class Verdict:
    """The answer, and in one clause why."""

    answer: Answer
    reason: str
    failing_phase: Phase | None = None
    """The first phase, in the order of a run, that the device cannot hold; on the host, the phase of its peak."""
    missing: tuple[str, ...] = ()
    """Inputs without which there is no answer."""
    failing_level: Level | None = None
    """Which memory is short in the failing phase: the device's, or the host's."""
    unpriced: tuple[str, ...] = ()
    """What the estimate leaves out, and the answer may turn on."""
    bounded: tuple[str, ...] = ()
    """What the estimate leaves out of a launch that fits, and that it fits with where it takes the most it may."""


def judge(
    estimate: MemoryEstimate | None,
    device: DeviceSpec | None,
    missing: tuple[str, ...] = (),
    margin_share: float = MARGIN_SHARE,
    host_bytes: int | None = None,
    model_name: str | None = None,
) -> Verdict:
    """Return the verdict of an estimate on a device, and on a node's own memory where that is known.

    Inputs may be missing: what is known is then a lower bound, which can refuse but never says fits.
    The host has no margin: its largest terms are counts of states, and an allowance is among the others.
    """
    if device is None:
        return Verdict(Answer.UNKNOWN, "no device is known", missing=(*missing, "device"))
    if estimate is None:
        missing = tuple(dict.fromkeys(("model", *missing)))
        named = (f"model {model_name}" if model_name else "model", *missing[1:])
        return Verdict(Answer.UNKNOWN, f"{', '.join(named)} not known", missing=missing)
    if not estimate.peaks:
        return Verdict(Answer.UNKNOWN, "there is nothing to add up", missing=missing)
    missing = tuple(dict.fromkeys((*missing, *estimate.unknown)))
    capacity = device.capacity_bytes
    for peak in estimate.peaks:
        runtime = peak.least_outside_bytes
        if peak.needed_bytes > capacity:
            return Verdict(
                Answer.DOES_NOT_FIT,
                f"{format_gib(peak.allocated_bytes)} of tensors"
                + (f" and {format_gib(runtime)} outside torch" if runtime else "")
                + f" do not fit {format_gib(capacity)}",
                peak.phase,
                missing,
                Level.DEVICE,
            )
    if host_bytes is not None and estimate.host_counted_bytes > host_bytes:
        return _on_host(Answer.DOES_NOT_FIT, estimate, host_bytes, missing)
    if missing:
        return Verdict(Answer.UNKNOWN, f"{', '.join(missing)} not known", missing=missing)
    margin = int(capacity * margin_share)
    for peak in estimate.peaks:
        if peak.device_bytes > capacity - margin:
            return Verdict(
                Answer.TIGHT,
                f"{format_gib(peak.device_bytes)} with fragmentation leave less than"
                f" {format_gib(margin)} of {format_gib(capacity)}",
                peak.phase,
                failing_level=Level.DEVICE,
            )
    if host_bytes is not None and estimate.host_peak_bytes_per_node > host_bytes:
        return _on_host(Answer.TIGHT, estimate, host_bytes, missing)
    return Verdict(Answer.FITS, "the worst phase leaves room")


def takes_margin_at_most(
    verdict: Verdict, estimate: MemoryEstimate, device: DeviceSpec | None
) -> bool:
    """Tell whether an estimate fits, or takes no more of its card than the margin that is to stay free."""
    if verdict.answer is Answer.FITS or device is None:
        return verdict.answer is Answer.FITS
    is_tight = verdict.answer is Answer.TIGHT and verdict.failing_level is Level.DEVICE
    return is_tight and all(p.device_bytes <= device.capacity_bytes for p in estimate.peaks)


MOST_NAMED = 4
"""Of what is not priced, in the one line of an answer; the findings name each with its place."""


def with_unpriced(verdict: Verdict, notices: Iterable[Problem]) -> Verdict:
    """Return the verdict that holds where something is left out of the estimate: `unknown`, if that could change it.

    What takes more than is counted leaves a refusal as it is; what takes less leaves `fits` as it is.
    """
    doubtful = ("less", "either") if verdict.answer is Answer.DOES_NOT_FIT else ("more", "either")
    names = tuple(dict.fromkeys(n.unpriced for n in notices if n.unpriced and n.takes in doubtful))
    if not names:
        return verdict
    reason = f"not priced: {named_first(names)}"
    if verdict.answer is Answer.UNKNOWN:
        return replace(verdict, reason=f"{verdict.reason}; {reason}", unpriced=names)
    return Verdict(Answer.UNKNOWN, reason, missing=verdict.missing, unpriced=names)


def named_first(names: Sequence[str]) -> str:
    """Return the first names of what is not priced, and how many more there are."""
    is_few = len(names) <= MOST_NAMED + 1
    shown = names if is_few else (*names[:MOST_NAMED], f"and {len(names) - MOST_NAMED} more")
    return "; ".join(shown)


def _on_host(
    answer: Answer, estimate: MemoryEstimate, host_bytes: int, missing: tuple[str, ...]
) -> Verdict:
    needed = estimate.host_counted_bytes
    words = f"{format_gib(needed)} per node do not fit the {format_gib(host_bytes)} of its host"
    if answer is Answer.TIGHT:
        needed = estimate.host_peak_bytes_per_node
        words = f"{format_gib(needed)} per node, with room for processes, are more than the host's {format_gib(host_bytes)}"
    return Verdict(answer, words, estimate.host_peak_phase, missing, Level.HOST)

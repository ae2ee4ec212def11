"""Adding up the terms that are alive together: the peak of every phase."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.errors import BadInput
from preflight.memory import (
    EVERY_STEP,
    FIRST_STEP,
    MOMENTS,
    ONLINE,
    ONLINE_MOMENTS,
    PHASE_MOMENTS,
    Level,
    MemoryEstimate,
    MemoryTerm,
    Moment,
    Phase,
    PhasePeak,
)


def estimate_peaks(
    terms: Iterable[MemoryTerm], unknown: Iterable[str] = (), is_cuda: bool = True
) -> MemoryEstimate:
    """Add what is alive together and keep the largest sum of every phase.

    `is_cuda` False leaves out what only a CUDA allocator and context take.
    Raises BadInput for two terms with one name (a plugin counted something twice).
    """
    kept = tuple(t for t in terms if is_cuda or t.level not in (Level.RESERVED, Level.DEVICE))
    seen: set[str] = set()
    for term in kept:
        if term.name in seen:
            raise BadInput.one(f"two memory terms are named {term.name!r}")
        seen.add(term.name)
    first_sums = _sums_at([t for t in kept if not t.from_second_step])
    sums = _sums_at([t for t in kept if t.from_second_step], first_sums)
    doubtful = [(t.moments, doubtful_bytes(t)) for t in kept if doubtful_bytes(t)]
    peaks = []
    host_peak, host_phase = 0, None
    for phase in phases_of(kept):
        moments = EVERY_STEP if phase is Phase.SECOND_STEP else PHASE_MOMENTS[phase]
        first_step = phase in FIRST_STEP
        best: tuple[int, Moment, int, int] | None = None
        for moment in moments:
            by_level = (first_sums if first_step else sums)[moment]
            if Level.ALLOCATED in by_level:
                allocated = by_level[Level.ALLOCATED]
                reserved = allocated + by_level.get(Level.RESERVED, 0)
                device = reserved + by_level.get(Level.DEVICE, 0)
                if best is None or allocated > best[0]:
                    best = allocated, moment, reserved, device
            host = sums[moment].get(Level.HOST, 0)
            if host > host_peak:
                host_peak, host_phase = host, phase
        if best is not None:
            allocated, moment, reserved, device = best
            in_doubt = sum(num_bytes for moments, num_bytes in doubtful if moment in moments)
            least_outside = device - reserved - in_doubt
            peaks.append(PhasePeak(phase, moment, allocated, reserved, device, least_outside))
    return MemoryEstimate(kept, tuple(peaks), host_peak, host_phase, tuple(unknown))


def phases_of(terms: Iterable[MemoryTerm]) -> tuple[Phase, ...]:
    """Return the phases that terms are about, in order: one of online RL where a term is of such phases alone."""
    own = frozenset[Moment]().union(*(t.moments for t in terms if t.moments <= ONLINE_MOMENTS))
    return tuple(p for p in Phase if p not in ONLINE or PHASE_MOMENTS[p][0] in own)


def doubtful_bytes(term: MemoryTerm) -> int:
    """Return what lies between the lower end of a range outside torch and its middle."""
    if term.level is not Level.DEVICE or term.least_bytes is None:
        return 0
    return term.num_bytes - term.least_bytes


def _sums_at(
    terms: Iterable[MemoryTerm], before: dict[Moment, dict[Level, int]] | None = None
) -> dict[Moment, dict[Level, int]]:
    """Return the bytes of every moment by level, on top of others; a level without terms is left out."""
    sums = {moment: {} if before is None else dict(before[moment]) for moment in MOMENTS}
    for term in terms:
        for moment in term.moments:
            by_level = sums[moment]
            by_level[term.level] = by_level.get(term.level, 0) + term.num_bytes
    return sums

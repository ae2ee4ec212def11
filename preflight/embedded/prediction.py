"""What an estimate says of the phases that a running process can tell apart."""

from __future__ import annotations

from collections.abc import Mapping

from preflight.embedded import recorder
from preflight.memory import EVERY_STEP, Level, MemoryEstimate, Moment

MOMENTS: dict[str, tuple[Moment, ...]] = {
    recorder.LOAD: (Moment.LOAD, Moment.PREPARE),
    recorder.FORWARD: (Moment.TOWER_FORWARD, Moment.FORWARD, Moment.LOSS_FORWARD),
    recorder.BACKWARD: (
        Moment.LOSS_BACKWARD,
        Moment.HEAD_BACKWARD,
        Moment.LAST_LAYER_BACKWARD,
        Moment.FIRST_LAYER_BACKWARD,
        Moment.TOWER_BACKWARD,
        Moment.EMBEDDING_BACKWARD,
    ),
    recorder.STEP: (Moment.OPTIMIZER_STEP,),
    recorder.SECOND: EVERY_STEP,
    recorder.EVALUATION: (Moment.EVALUATION,),
    recorder.SAVE: (Moment.SAVE,),
}
"""Measured phase -> the moments of a plan that fall into it. A loss inside the model ends with forward."""

FIRST_STEP = (recorder.FORWARD, recorder.BACKWARD)


def predicted_phases(
    estimate: MemoryEstimate, counters: tuple[str, ...]
) -> Mapping[str, Mapping[str, int]]:
    """Return phase -> counter -> predicted peak, of the counters that the run has."""
    if estimate.unknown or not estimate.peaks:
        return {}  # a lower bound is no prediction
    found = {}
    for phase, moments in MOMENTS.items():
        sums = [_sums(estimate, moment, phase not in FIRST_STEP) for moment in moments]
        best = max(sums, key=lambda by_counter: by_counter["allocated"])
        if best["allocated"]:
            found[phase] = {name: best[name] for name in counters}
    return found


def terms_of_phase(estimate: MemoryEstimate, phase: str) -> dict[str, int]:
    """Return term -> bytes of the live tensors at the moment of a measured phase that holds most."""
    terms: dict[str, int] = {}
    for moment in MOMENTS.get(phase, ()):
        alive = [
            term
            for term in estimate.terms_at(moment, phase not in FIRST_STEP)
            if term.level is Level.ALLOCATED
        ]
        if sum(term.num_bytes for term in alive) > sum(terms.values()):
            terms = {}
            for term in alive:
                terms[term.name] = terms.get(term.name, 0) + term.num_bytes
    return terms


def _sums(estimate: MemoryEstimate, moment: Moment, second_step: bool) -> dict[str, int]:
    alive = estimate.terms_at(moment, second_step)
    allocated = sum(t.num_bytes for t in alive if t.level is Level.ALLOCATED)
    reserved = allocated + sum(t.num_bytes for t in alive if t.level is Level.RESERVED)
    device = reserved + sum(t.num_bytes for t in alive if t.level is Level.DEVICE)
    return {"allocated": allocated, "reserved": reserved, "device": device}

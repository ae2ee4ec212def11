"""What a training says of itself: a line after its first steps, with what is still to come, and one at its end."""

from __future__ import annotations

from preflight.embedded.prediction import terms_of_phase
from preflight.memory import MemoryEstimate
from preflight.records.run_record import COUNTERS, RunRecord
from preflight.render.words import amount, of_capacity
from preflight.verdict import MARGIN_SHARE

CLOSE_SHARE = 0.01
"""Of the peak: phases that are off by less agree with their prediction."""
ALIKE_SHARE = 0.25
"""Of the largest difference: phases whose differences are closer than this are off by the same."""


def live_line(record: RunRecord, estimate: MemoryEstimate) -> str:
    """Return one line about a record that has its prediction: the peak, what is furthest off, and what may not fit.

    Empty where no phase was both measured and predicted.
    """
    apart = apart_by(record, "allocated")
    if not apart:
        return ""
    phase = max(apart, key=lambda name: record.phases[name]["allocated"])
    measured = record.phases[phase]["allocated"]
    predicted = record.predicted[phase]["allocated"]
    text = (
        f"preflight: after {record.num_steps} steps: predicted {amount(predicted, predicted)},"
        f" measured {amount(measured, predicted)} of live tensors in {_words(phase)}"
        f" ({(predicted - measured) / measured:+.1%})"
    )
    furthest = max(apart, key=lambda name: abs(apart[name]))
    if abs(apart[furthest]) > CLOSE_SHARE * measured:
        more = "more" if apart[furthest] > 0 else "less"
        text += f"; furthest off is {_words(furthest)}, {amount(abs(apart[furthest]), predicted)} {more} than predicted"
        term = suspect(estimate, furthest, apart)
        text += f" ({term})" if term else ", as is every phase: what is held beside the training"
    return text + still_to_come(record)


def apart_by(record: RunRecord, counter: str) -> dict[str, int]:
    """Return phase -> measured less predicted bytes of a counter, of the phases that have both."""
    return {
        name: peaks[counter] - record.predicted[name][counter]
        for name, peaks in record.phases.items()
        if counter in peaks and counter in record.predicted.get(name, {})
    }


def suspect(estimate: MemoryEstimate, phase: str, apart: dict[str, int]) -> str:
    """Return the largest term of a phase that is not in the phase which agrees best: a counter tells no terms apart.

    Empty where all phases are off by about as much: then no term of one phase is it.
    """
    nearest = min(apart, key=lambda name: abs(apart[name]))
    if abs(apart[phase] - apart[nearest]) < ALIKE_SHARE * abs(apart[phase]):
        return ""
    agreeing = {} if nearest == phase else terms_of_phase(estimate, nearest)
    terms = terms_of_phase(estimate, phase)
    alone = {name: size for name, size in terms.items() if name not in agreeing} or terms
    return max(alone, key=alone.__getitem__, default="")


def still_to_come(record: RunRecord) -> str:
    """Return which later phase may not fit, if the steps took more than was predicted; empty where all leave room."""
    counter = next((c for c in reversed(COUNTERS) if apart_by(record, c)), "")
    capacity = record.device.get("capacity_bytes")
    if not counter or not capacity:
        return ""
    excess = max(0, *apart_by(record, counter).values())
    taken = record.peak(counter) or 0
    limit = capacity * (1 - MARGIN_SHARE)
    coming = {
        name: peaks[counter] + excess
        for name, peaks in record.predicted.items()
        if name not in record.phases and counter in peaks
    }
    text = ""
    if excess and taken > limit:
        text += f"; {of_capacity(taken, capacity)} are taken, nearer to the card than predicted"
    most = max(coming, key=coming.__getitem__, default="")
    if excess and most and coming[most] > limit:
        text += f"; {_words(most)} may take {of_capacity(coming[most], capacity)}: it may not fit"
    return text


def summary_line(record: RunRecord) -> str:
    """Return what was predicted and measured of the phase with the most live tensors, in a line."""
    phase, measured = record.peak_phase, record.peak("allocated")
    if not phase or measured is None:
        return "preflight: nothing was measured"
    predicted = record.predicted_peak("allocated")
    # A device and its share may be far apart: each amount in the unit that it needs.
    small = min(measured, predicted or measured)
    text = "preflight: "
    if predicted is not None:
        most = max(record.predicted, key=lambda name: record.predicted[name]["allocated"])
        text += f"predicted {amount(predicted, small)} in {_words(most)}, "
    text += f"measured {amount(measured, small)} of live tensors in {_words(phase)}"
    if predicted is None:
        text += "; nothing was predicted"
    else:
        text += f" ({(predicted - measured) / measured:+.1%})"
    for counter, words in (("reserved", "reserved"), ("device", "on the device")):
        value = record.peak(counter)
        text += f"; {words} {amount(value, small)}" if value is not None else ""
    return text + (f"; rank {record.rank} of {record.world_size}" if record.world_size > 1 else "")


def _words(phase: str) -> str:
    return phase.replace("_", " ")

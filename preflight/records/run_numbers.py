"""What of a finished run says something of the runtime terms: a few numbers per rank."""

from __future__ import annotations

from collections.abc import Sequence

from preflight.records.run_record import RunRecord
from preflight.values import NamedTuple

CONTEXT, NCCL = "CUDA context", "NCCL buffers"
"""The terms of hooks/memory_runtime.py."""


class Card(NamedTuple):
    """What a record says of its device."""

    name: str
    kind: str
    capacity_bytes: int


class RankNumbers(NamedTuple):
    """One rank; None for what it did not count, or nobody predicted."""

    outside: int | None
    context: int
    """Predicted, as `nccl`."""
    nccl: int
    allocated: int | None
    reserved: int | None
    predicted_allocated: int | None
    predicted_reserved: int | None


class FinishedRun(NamedTuple):
    """A run on GPUs of which every rank ended well; the first of its ranks is the one that started first."""

    card: Card
    is_alone: bool
    """Whether it had one rank."""
    ranks: Sequence[RankNumbers]


def card_of(record: RunRecord) -> Card:
    """Return what a record says of its device."""
    device = record.device
    kind, capacity = device.get("kind"), device.get("capacity_bytes")
    return Card(record.device_class, kind if isinstance(kind, str) else "", capacity or 0)


def numbers_of(record: RunRecord) -> RankNumbers:
    """Return the numbers of a rank."""
    predicted = record.predicted_runtime
    return RankNumbers(
        record.outside_bytes,
        predicted.get(CONTEXT, 0),
        predicted.get(NCCL, 0),
        record.peak("allocated"),
        record.peak("reserved"),
        record.predicted_peak("allocated"),
        record.predicted_peak("reserved"),
    )

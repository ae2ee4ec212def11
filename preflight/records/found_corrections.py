"""What measured runs say of a card's runtime terms: the correction that this site's own records make."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from preflight.records.run_numbers import Card, FinishedRun, RankNumbers
from preflight.records.site_correction import Correction
from preflight.units import GIB

MIN_RUNS = 5
"""Runs behind each corrected term; two that are wrong do not decide a median of five."""
LEAST_SHARE = 0.01
"""Of live tensors: a smaller predicted loss of the allocator says nothing about a factor."""


def corrections_of(runs: Iterable[FinishedRun]) -> dict[str, Correction]:
    """Return card -> correction; each run counts once, whatever its ranks."""
    said: dict[str, _Said] = {}
    keys: dict[Card, str] = {}
    for run in runs:
        if run.card not in keys:
            keys[run.card] = device_key(run.card)
        said.setdefault(keys[run.card], _Said()).add(run)
    corrections = {device: one.correction(device) for device, one in sorted(said.items())}
    return {
        device: correction for device, correction in corrections.items() if not correction.is_empty
    }


class _Said:
    """What the runs of one card say, in eight bytes a number: there may be millions of runs."""

    def __init__(self) -> None:
        self.num_runs = 0
        self.contexts = array("d")
        self.losses = array("d")
        self.several = array("d")
        """Of runs with predicted buffers, three numbers each: outside, context, buffers."""

    def add(self, run: FinishedRun) -> None:
        self.num_runs += 1
        outside = _outside(run.ranks)
        if outside is not None and run.is_alone:
            self.contexts.append(outside)
        first = run.ranks[0]
        if outside is not None and first.nccl:
            self.several.extend((outside, first.context, first.nccl))
        loss = _loss(run.ranks)
        if loss is not None:
            self.losses.append(loss)

    def correction(self, device: str) -> Correction:
        context = _enough(self.contexts)
        nccl = array("d")
        for at in range(0, len(self.several), 3):
            outside, predicted, buffers = self.several[at : at + 3]
            own_context = predicted if context is None else int(context)
            nccl.append(max(0.0, outside - own_context) / buffers)
        factor, loss = _enough(nccl), _enough(self.losses)
        return Correction(
            device,
            self.num_runs,
            None if context is None else int(context),
            0 if context is None else len(self.contexts),
            factor,
            0 if factor is None else len(nccl),
            loss,
            0 if loss is None else len(self.losses),
        )


def _enough(values: Sequence[float]) -> float | None:
    return median(values) if len(values) >= MIN_RUNS else None


def median(values: Sequence[float]) -> float:
    """Return the middle value, of an even number the mean of two; `statistics` takes longer to import than a check."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _outside(ranks: Sequence[RankNumbers]) -> int | None:
    values = [rank.outside for rank in ranks if rank.outside is not None]
    return int(median(values)) if values else None


def _loss(ranks: Sequence[RankNumbers]) -> float | None:
    """Return what the allocator held beyond live tensors over what was predicted, on the fullest rank."""
    fullest = max(ranks, key=lambda rank: rank.allocated or 0)
    measured = _beyond(fullest.reserved, fullest.allocated)
    predicted = _beyond(fullest.predicted_reserved, fullest.predicted_allocated)
    if measured is None or not predicted:
        return None
    if predicted < LEAST_SHARE * (fullest.predicted_allocated or 0):
        return None
    return measured / predicted


def _beyond(reserved: int | None, allocated: int | None) -> int | None:
    return None if reserved is None or allocated is None else max(0, reserved - allocated)


def device_key(card: Card) -> str:
    """Return the key of a record's card in the GPU table, else the name that torch gave."""
    from preflight.devices.gpu_table import find_gpus

    capacity = card.capacity_bytes / GIB
    found = find_gpus(card.name)
    entry = min(found, key=lambda entry: abs(entry.marketing_gb - capacity), default=None)
    return card.name if entry is None else entry.key

"""What a site's own runs say of the terms that no formula knows: context, NCCL, and what the allocator loses.

Model terms are never corrected: a wrong one is a bug. Each of the three is the median over the runs
of one card, so that half of them may be wrong in any way (another process on the device, a killed
run) without moving it far, and is used from MIN_RUNS runs on. Fewer than half of the runs cannot
make a median, which is why MIN_RUNS is not three.

The result is kept beside the records in a file of its own: a check must not read every record.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from preflight.device import DeviceSpec
from preflight.memory import Level, MemoryTerm
from preflight.records.folder import CORRECTION_FILE, records_folder
from preflight.records.run_numbers import CONTEXT, NCCL, Card, FinishedRun, RankNumbers
from preflight.records.run_record import is_count
from preflight.trust import NotTrusted, read_trusted
from preflight.units import GIB, MIB
from preflight.values import dataclass

MIN_RUNS = 5
"""Runs behind each corrected term; two that are wrong do not decide a median of five."""
LEAST_SHARE = 0.01
"""Of live tensors: a smaller predicted loss of the allocator says nothing about a factor."""

MOST_CONTEXT_BYTES = 64 * GIB
MOST_FACTOR = 1000.0
"""What no run measures: a larger one is damage."""

SCHEMA = 1


@dataclass(frozen=True)
class Correction:
    """The corrected runtime terms of one card; None for what too few runs say."""

    device: str
    num_runs: int
    context_bytes: int | None = None
    num_context_runs: int = 0
    nccl_factor: float | None = None
    num_nccl_runs: int = 0
    allocator_factor: float | None = None
    num_allocator_runs: int = 0

    @property
    def is_empty(self) -> bool:
        return (
            self.context_bytes is None
            and self.nccl_factor is None
            and self.allocator_factor is None
        )

    @property
    def words(self) -> str:
        """Return what was corrected, and how many runs say so."""
        parts = []
        if self.context_bytes is not None:
            runs = self.num_context_runs
            parts.append(f"context {self.context_bytes / MIB:.0f} MiB ({runs} runs)")
        if self.nccl_factor is not None:
            parts.append(f"NCCL x{self.nccl_factor:.2f} ({self.num_nccl_runs} runs)")
        if self.allocator_factor is not None:
            runs = self.num_allocator_runs
            parts.append(f"allocator's loss x{self.allocator_factor:.2f} ({runs} runs)")
        return f"measured on this site's {self.device}: {', '.join(parts)}"


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


def write_corrections(found: Mapping[str, Correction], folder: str | None = None) -> None:
    """Keep the corrections of a folder. A failure to keep them is silent."""
    path = os.path.join(folder or records_folder(), CORRECTION_FILE)
    from preflight.whole_file import write_whole

    values = {name: {f: getattr(c, f) for f in _FIELDS} for name, c in found.items()}
    with suppress(OSError):
        write_whole(path, json.dumps({"schema": SCHEMA, "devices": values}, indent=1), mode=0o644)


_FIELDS = (
    "device",
    "num_runs",
    "context_bytes",
    "num_context_runs",
    "nccl_factor",
    "num_nccl_runs",
    "allocator_factor",
    "num_allocator_runs",
)
_SWITCHED_OFF: list[None] = []


@contextmanager
def uncorrected() -> Iterator[None]:
    """Estimate by the formulas alone inside: what is compared with measurements must not contain them."""
    _SWITCHED_OFF.append(None)
    try:
        yield
    finally:
        _SWITCHED_OFF.pop()


def correction_for(device: DeviceSpec | None) -> Correction | None:
    """Return what this site's runs say of a device; None where they say nothing."""
    if device is None or not device.has_runtime or _SWITCHED_OFF:
        return None
    path = os.path.join(records_folder(), CORRECTION_FILE)
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError:
        return None
    devices = _read(path, changed).devices
    return devices.get(device.key or "") or devices.get(device.name)


def damage() -> str:
    """Return what of the file of corrections is passed over, and why; nothing where all of it is used."""
    path = os.path.join(records_folder(), CORRECTION_FILE)
    try:
        return _read(path, os.stat(path).st_mtime_ns).damage
    except OSError:
        return ""


class _Kept(NamedTuple):
    devices: Mapping[str, Correction]
    damage: str = ""


@lru_cache(maxsize=4)
def _read(path: str, changed: int) -> _Kept:
    try:
        whole = json.loads(read_trusted(path))
    except NotTrusted as distrust:
        return _Kept({}, str(distrust))
    except (OSError, ValueError, RecursionError) as error:
        return _Kept({}, f"{path} is passed over: {getattr(error, 'strerror', 0) or 'no JSON'}")
    if not isinstance(whole, dict) or not isinstance(whole.get("devices"), dict):
        return _Kept({}, f"{path} is passed over: it holds no corrections")
    if whole.get("schema") != SCHEMA:
        return _Kept({})  # of another version of preflight, which writes it anew
    read = {name: _correction_from(value) for name, value in whole["devices"].items()}
    wrong = ", ".join(repr(name) for name, correction in read.items() if correction is None)
    found = {name: correction for name, correction in read.items() if correction is not None}
    return _Kept(found, f"{path}: what it says of {wrong} is passed over" if wrong else "")


def _correction_from(value: Any) -> Correction | None:
    """Return what the file says of one card; None where anything of it is no number that can be."""
    if not isinstance(value, dict) or not set(_FIELDS) <= set(value):
        return None
    counts = [value[name] for name in _FIELDS if name.startswith("num_")]
    context, factors = value["context_bytes"], (value["nccl_factor"], value["allocator_factor"])
    is_right = (
        isinstance(value["device"], str)
        and all(map(is_count, counts))
        and (context is None or (is_count(context) and context <= MOST_CONTEXT_BYTES))
        and all(factor is None or _is_factor(factor) for factor in factors)
    )
    return Correction(**{name: value[name] for name in _FIELDS}) if is_right else None


def _is_factor(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= MOST_FACTOR  # false for NaN


def corrected_terms(
    terms: tuple[MemoryTerm, ...], correction: Correction
) -> tuple[MemoryTerm, ...]:
    """Return the terms with the runtime's as measured; terms of level allocated and host stay as they are."""
    return tuple(_corrected(term, correction) for term in terms)


def _corrected(term: MemoryTerm, correction: Correction) -> MemoryTerm:
    where = f"runs of this site on {correction.device}"
    if term.level is Level.RESERVED and correction.allocator_factor is not None:
        factor, runs = correction.allocator_factor, correction.num_allocator_runs
        return _scaled(term, factor, f"{where}, median of {runs}")
    if term.level is Level.DEVICE and term.name == NCCL and correction.nccl_factor is not None:
        factor, runs = correction.nccl_factor, correction.num_nccl_runs
        return _scaled(term, factor, f"{where}, median of {runs}")
    if term.level is Level.DEVICE and term.name == CONTEXT and correction.context_bytes is not None:
        return replace(
            term,
            num_bytes=correction.context_bytes,
            least_bytes=None,
            formula=f"median of {correction.num_context_runs} runs",
            source=where,
        )
    return term


def _scaled(term: MemoryTerm, factor: float, source: str) -> MemoryTerm:
    formula = f"({term.formula}) * {factor:.3f}" if term.formula else f"* {factor:.3f}"
    return replace(
        term,
        num_bytes=int(term.num_bytes * factor),
        least_bytes=None,
        formula=formula,
        source=f"{source}; {term.source}",
    )


def to_dict(correction: Correction) -> dict[str, Any]:
    """Return a correction as JSON has it."""
    return {name: getattr(correction, name) for name in _FIELDS}

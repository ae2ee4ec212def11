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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

from preflight.device import DeviceSpec
from preflight.memory import Level, MemoryTerm
from preflight.records.folder import CORRECTION_FILE, records_folder
from preflight.records.run_numbers import CONTEXT, NCCL
from preflight.records.run_record import is_count
from preflight.trust import NotTrusted, read_trusted
from preflight.units import GIB, MIB
from preflight.values import NamedTuple, dataclass

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


def write_corrections(found: Mapping[str, Correction], folder: str | None = None) -> None:
    """Keep the corrections of a folder. A failure to keep them is silent."""
    path = os.path.join(folder or records_folder(), CORRECTION_FILE)
    from preflight.whole_file import write_whole

    values = {name: {f: getattr(c, f) for f in _FIELDS} for name, c in found.items()}
    with suppress(OSError):
        write_whole(path, json.dumps({"schema": SCHEMA, "devices": values}, indent=1), mode=0o644)


_FIELDS = (
    "device", "num_runs", "context_bytes", "num_context_runs", "nccl_factor", "num_nccl_runs", "allocator_factor",
    "num_allocator_runs",
)  # fmt: skip
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

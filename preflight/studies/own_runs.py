"""This site's own records as measured runs, for `preflight validate`: one per run, of its fullest rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from preflight.errors import BadInput
from preflight.plan_dict import plan_from_dict
from preflight.records.found_corrections import device_key
from preflight.records.run_numbers import card_of
from preflight.records.run_record import DONE, OOM, RunRecord
from preflight.studies.measured import MeasuredRun


def fullest(ranks: Iterable[RunRecord]) -> RunRecord:
    """Return the record of the rank with the most live tensors."""
    return max(ranks, key=lambda record: record.peak("allocated") or 0)


def outcome_of(ranks: Iterable[RunRecord]) -> str:
    """Return what became of a run: the worst that became of a rank."""
    order = (OOM, "failed", "running", DONE)
    return min((record.outcome for record in ranks), key=order.index)


def measured_runs(runs: Iterable[Sequence[RunRecord]]) -> tuple[MeasuredRun, ...]:
    """Return the runs that say something of an estimate."""
    measured = (_measured(ranks) for ranks in runs)
    return tuple(run for run in measured if run is not None)


def _measured(ranks: Sequence[RunRecord]) -> MeasuredRun | None:
    record, outcome = fullest(ranks), outcome_of(ranks)
    peaks = {name: record.peak(name) for name in ("allocated", "reserved", "device")}
    measured = peaks["allocated"]
    if outcome not in (DONE, OOM) or not record.plan or measured is None:
        return None
    try:
        plan = plan_from_dict(record.plan, f"run {record.run_id}")
    except BadInput:
        return None  # of another version of preflight
    is_value = outcome == DONE
    return MeasuredRun(
        id=record.run_id,
        group=device_key(card_of(record)),
        plan=plan,
        device=device_of_record(record),
        outcome="value" if is_value else "oom",
        counter="allocated" if is_value else None,
        measured_bytes=measured if is_value else None,
        other_counters={
            name: value
            for name, value in peaks.items()
            if is_value and value is not None and name != "allocated"
        },
    )


def device_of_record(record: RunRecord) -> Mapping[str, Any]:
    """Return a record's device as a measured run has it."""
    device: dict[str, Any] = {"name": str(record.device.get("name"))}
    if isinstance(record.device.get("capacity_bytes"), int):
        device["capacity_bytes"] = record.device["capacity_bytes"]
    return device

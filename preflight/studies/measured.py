"""Measured runs: what was launched, on what, and what became of it; read from a file of schema 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from preflight.errors import BadInput, Problem, raise_if_any
from preflight.formats.document import Document
from preflight.launch import LaunchPlan
from preflight.plan_dict import plan_from_dict
from preflight.records.run_record import is_count
from preflight.values import dataclass

COUNTERS = ("allocated", "reserved", "device")
"""The counters that a level of ours is compared with; `unknown` is listed and not compared."""

MOST_GIB = 1 << 20
"""Of a device: a thousand times the largest."""
OUTCOMES = ("value", "fits", "oom")


@dataclass(frozen=True)
class MeasuredRun:
    """One published or own run: what was launched, on what, and what became of it."""

    id: str
    group: str
    plan: LaunchPlan
    device: Mapping[str, Any]
    outcome: str
    """value (a peak was read), fits (it ran), oom (it died)."""
    counter: str | None = None
    measured_bytes: int | None = None
    other_counters: Mapping[str, int] | None = None
    """Further counters of the same run."""
    is_scored: bool = True
    not_scored_because: str = ""


def read_runs(file: Document) -> tuple[MeasuredRun, ...]:
    """Return the runs of a measured-run file (schema 1); raise BadInput naming every problem at once."""
    whole = file.value
    problems: list[Problem] = []
    if whole.get("schema") != 1:
        problems.append(
            Problem(f"schema must be 1, not {whole.get('schema')!r}", file.place("schema"))
        )
    models = whole.get("models") or {}
    if not isinstance(models, dict):
        problems.append(Problem("models must map a model's id to its config", file.place("models")))
        models = {}
    entries = whole.get("runs")
    if not isinstance(entries, list):
        raise BadInput(*problems, Problem("runs must be a list", file.place("runs")))
    runs: list[MeasuredRun] = []
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        try:
            run = _run(entry, index, models, file)
        except BadInput as error:
            problems.extend(error.problems)
            continue
        if run.id in seen:
            problems.append(Problem(f"two runs have the id {run.id!r}", file.place("runs", index)))
        seen.add(run.id)
        runs.append(run)
    raise_if_any(problems)
    return tuple(runs)


def _run(entry: Any, index: int, models: Mapping[str, Any], file: Document) -> MeasuredRun:
    place = file.place("runs", index)
    if not isinstance(entry, dict):
        raise BadInput.one("a run must be a mapping", place)
    run_id = str(entry.get("id", f"run {index + 1}"))
    problems: list[Problem] = []
    parts: dict[str, Mapping[str, Any]] = {}
    for key in ("plan", "device", "measured"):
        part = entry.get(key)
        if not isinstance(part, dict):
            problems.append(Problem(f"{run_id}: {key} must be a mapping", place))
        parts[key] = part if isinstance(part, dict) else {}
    plan = LaunchPlan()
    if parts["plan"]:
        places = {str(k): file.place("runs", index, "plan", str(k)) for k in parts["plan"]}
        try:
            plan = with_config_of(plan_from_dict(parts["plan"], place, places), models)
            plan = _with_sequence_kind(plan, entry.get("sequence_kind"))
        except BadInput as error:
            problems.extend(error.problems)
    measured = parts["measured"]
    problems.extend(_measured_problems(measured, run_id, place) if measured else ())
    problems.extend(_device_problems(parts["device"], run_id, place))
    raise_if_any(problems)
    return MeasuredRun(
        id=run_id,
        group=str(entry.get("group") or "no group"),
        plan=plan,
        device=parts["device"],
        outcome=measured["outcome"],
        counter=measured.get("counter"),
        measured_bytes=measured.get("peak_bytes"),
        other_counters={
            counter: measured[f"{counter}_peak_bytes"]
            for counter in COUNTERS
            if measured.get(f"{counter}_peak_bytes") and counter != measured.get("counter")
        },
        is_scored=entry.get("scored", True) is not False,
        not_scored_because=str(entry.get("not_scored_because") or ""),
    )


def _measured_problems(measured: Mapping[str, Any], run_id: str, place: str) -> Iterator[Problem]:
    outcome = measured.get("outcome")
    for name in (f"{counter}_peak_bytes" for counter in COUNTERS):
        if measured.get(name) is not None and not is_count(measured[name]):
            wrong = f"{name} must be a whole number of bytes, not {measured[name]!r}"
            yield Problem(f"{run_id}: {wrong}", place)
    if outcome not in OUTCOMES:
        yield Problem(f"{run_id}: outcome must be {', '.join(OUTCOMES)}, not {outcome!r}", place)
    if outcome == "value":
        peak = measured.get("peak_bytes")
        if not is_count(peak) or not peak:
            wrong = f"peak_bytes must be a whole number of bytes, not {peak!r}"
            yield Problem(f"{run_id}: {wrong}", place)
        counter = measured.get("counter")
        if counter not in (*COUNTERS, "unknown"):
            wrong = f"counter must be {', '.join(COUNTERS)} or unknown, not {counter!r}"
            yield Problem(f"{run_id}: {wrong}", place)


def _device_problems(device: Mapping[str, Any], run_id: str, place: str) -> Iterator[Problem]:
    capacity, memory_gb = device.get("capacity_bytes"), device.get("memory_gb")
    if capacity is not None and not is_count(capacity):
        wrong = f"capacity_bytes must be a whole number of bytes, not {capacity!r}"
        yield Problem(f"{run_id}: {wrong}", place)
    if memory_gb is not None and not _is_size(memory_gb):
        yield Problem(f"{run_id}: memory_gb must be a number of GiB, not {memory_gb!r}", place)


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < MOST_GIB


def with_config_of(plan: LaunchPlan, models: Any) -> LaunchPlan:
    """Return the plan with the inline config that a file's `models` has for it."""
    if plan.model_config is None and isinstance(models, Mapping) and plan.model in models:
        return replace(plan, model_config=models[plan.model])
    return plan


def _with_sequence_kind(plan: LaunchPlan, words: Any) -> LaunchPlan:
    """Take the run's own words for its sequences where the plan says nothing: `packed_fixed`, `padded to ...`."""
    if plan.sequence_kind is not None or not isinstance(words, str):
        return plan
    if words.startswith("packed"):
        return replace(plan, sequence_kind="packed")
    if words.startswith("fixed"):
        return replace(plan, sequence_kind="fixed")
    if words.startswith("padded") or "padded" in words:
        return replace(plan, sequence_kind="padded")
    return plan

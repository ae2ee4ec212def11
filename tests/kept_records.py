"""What is kept of runs in a folder, as values: for tests, whose folders are small."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from preflight.records.run_files import LinesFile, RecordFiles
from preflight.records.run_index import RunIndex, record_of
from preflight.records.run_numbers import FinishedRun, card_of, numbers_of
from preflight.records.run_record import DONE, RunRecord


class Records(NamedTuple):
    """Every record of a folder, oldest run first, and where something lies that is no record."""

    records: tuple[RunRecord, ...]
    unreadable: tuple[str, ...] = ()


def read_records(folder: str | None = None) -> Records:
    with RecordFiles(folder) as files:
        index = RunIndex(files)
        records = tuple(record for ranks in index.runs() for record in ranks)
        return Records(records, tuple(index.unreadable))


def read_lines(path: str) -> list[RunRecord | None]:
    """Return the record of every line of a file, None for what is none."""
    return [record_of(line.text) for line in LinesFile(path).lines()]


def runs_of(records: Iterable[RunRecord]) -> list[list[RunRecord]]:
    """Return the records of each run together, oldest run first."""
    runs: dict[str, list[RunRecord]] = {}
    for record in records:
        runs.setdefault(record.run_id, []).append(record)
    return list(runs.values())


def finished_runs(records: Iterable[RunRecord]) -> Iterator[FinishedRun]:
    """Return the finished runs on GPUs of some records, one per rank of a run."""
    for ranks in runs_of(records):
        card = card_of(ranks[0])
        if card.kind == "cuda" and all(record.outcome == DONE for record in ranks):
            yield FinishedRun(
                card, ranks[0].world_size == 1, [numbers_of(record) for record in ranks]
            )

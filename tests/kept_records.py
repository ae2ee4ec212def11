"""What is kept of runs in a folder, as values: for tests, whose folders are small."""

from __future__ import annotations

from typing import NamedTuple

from preflight.records.run_files import LinesFile, RecordFiles
from preflight.records.run_index import RunIndex, record_of
from preflight.records.run_record import RunRecord


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

"""Where records of runs are kept: a line of JSON each, and an SQLite store that is read.

Both are of one host and named after it, so that ranks of several hosts may share a folder on a
network file system, where neither locks nor shared memory can be relied on. A host reads its own
store, and the lines of the others.

A process may be killed at any moment and a disk may be full: a line is written in one call and a
torn one is passed over; SQLite's journal is write-ahead, and a commit is there or not. Whatever
fails is returned and never raised: a record is not worth a run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from preflight.records.folder import records_folder
from preflight.records.run_record import RUNNING, RunRecord, record_from_dict

if TYPE_CHECKING:
    import sqlite3

LOCK_TIMEOUT_S = 30.0
"""How long a rank waits for the others that write; a commit takes milliseconds."""

TABLE = """\
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT NOT NULL, rank INTEGER NOT NULL, started TEXT NOT NULL, outcome TEXT NOT NULL,
    device TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY (run_id, rank)
)"""


class Records(NamedTuple):
    """Every record of a folder, oldest first, and how many lines were no record."""

    records: tuple[RunRecord, ...]
    num_unreadable: int


def host_name() -> str:
    """Return this host's name, fit for a file's."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", os.uname().nodename) or "host"


def save(record: RunRecord, folder: str | None = None) -> list[str]:
    """Write a record down; return what went wrong, in words. A finished run gets its line too."""
    folder = folder or records_folder()
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        return [f"{folder}: {error.strerror}"]
    wrong = [] if record.outcome == RUNNING else _add_line(record, folder)
    return wrong + _add_row(record, folder)


def _add_line(record: RunRecord, folder: str) -> list[str]:
    path = os.path.join(folder, f"runs-{host_name()}.jsonl")
    line = json.dumps(record.to_dict(), separators=(",", ":")).encode() + b"\n"
    try:
        # One write at the end of the file; the kernel lets no other writer of this host in between.
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # somebody was stopped in the middle of a line
            written = os.write(file, line)
        finally:
            os.close(file)
    except OSError as error:
        return [f"{path}: {error.strerror}"]
    return [] if written == len(line) else [f"{path}: the disk took a part of the line only"]


def _add_row(record: RunRecord, folder: str) -> list[str]:
    try:
        import sqlite3
    except ImportError:
        return []  # a Python built without it: the lines are kept
    path = _store(folder)
    row = (record.run_id, record.rank, record.started, record.outcome, record.device_class)
    text = json.dumps(record.to_dict(), separators=(",", ":"))
    try:
        with closing(_opened(path)) as store, store:
            store.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?, ?, ?)", (*row, text))
    except (sqlite3.Error, OSError) as error:
        return [f"{path}: {error}"]
    return []


def _store(folder: str) -> str:
    return os.path.join(folder, f"runs-{host_name()}.sqlite")


def _opened(path: str) -> sqlite3.Connection:
    import sqlite3

    store = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S)
    try:
        # Kept in the file once set; where the file system cannot, SQLite says so and keeps its own.
        store.execute("PRAGMA journal_mode=WAL").fetchone()
        store.execute(TABLE)
    except BaseException:
        store.close()
        raise
    return store


def read_records(folder: str | None = None) -> Records:
    """Return every record of a folder: of this host from its store, of others from their lines."""
    folder = folder or records_folder()
    found: dict[tuple[str, int], RunRecord] = {}
    unreadable = 0
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return Records((), 0)
    for name in names:
        if name.startswith("runs-") and name.endswith(".jsonl"):
            records, torn = read_lines(os.path.join(folder, name))
            unreadable += torn
            found.update(((record.run_id, record.rank), record) for record in records)
    if os.path.basename(_store(folder)) in names:
        for record in read_store(_store(folder)):
            known = found.get((record.run_id, record.rank))
            if known is None or known.outcome == RUNNING:
                found[(record.run_id, record.rank)] = record
    ordered = sorted(found.values(), key=lambda r: (r.started, r.run_id, r.rank))
    return Records(tuple(ordered), unreadable)


def read_lines(path: str) -> tuple[list[RunRecord], int]:
    """Return the records of a file of lines, and how many lines are none."""
    records: list[RunRecord] = []
    unreadable = 0
    try:
        with open(path, "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return [], 0
    for line in lines:
        if not line.strip():
            continue
        try:
            record = record_from_dict(json.loads(line))
        except (ValueError, RecursionError):
            record = None
        if record is None:
            unreadable += 1
        else:
            records.append(record)
    return records, unreadable


def read_store(path: str) -> Iterator[RunRecord]:
    """Yield the records of a store; nothing where it cannot be read."""
    try:
        import sqlite3
    except ImportError:
        return
    try:
        with closing(_opened(path)) as store:
            rows = store.execute("SELECT record FROM runs ORDER BY started").fetchall()
    except (sqlite3.Error, OSError):
        return
    for (text,) in rows:
        record = record_from_dict(json.loads(text))
        if record is not None:
            yield record

"""Where records of runs are kept: lines of JSON, the last line of a rank of a run being its record.

A file is of one host and named after it, so that ranks of several hosts may share a folder on a
network file system, where lines that two hosts append at once are lost and locks cannot be relied on.

A process may be killed at any moment and a disk may be full: a line is appended in one call under
a lock, and the next writer ends a line that was cut short. Whatever fails is returned and never
raised: a record is not worth a run.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import time
from typing import NamedTuple

from preflight.records.folder import records_folder
from preflight.records.run_record import RunRecord, record_from_dict
from preflight.trust import NotTrusted, open_trusted

LOCK_TIMEOUT_S = 30.0
"""How long a rank waits for the others that write; a line takes milliseconds."""
LOCK_PAUSE_S = 0.005
MODE = 0o600
"""What a run took is its user's to show."""
_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
LONGEST_LINE_BYTES = 1 << 20
"""A record has a few thousand; what is no line is read in pieces that are no records."""


class Records(NamedTuple):
    """Every record of a folder, oldest first, and where something lies that is no record."""

    records: tuple[RunRecord, ...]
    unreadable: tuple[str, ...] = ()
    """FILE:LINE of each line that was cut short or is of another schema, and why."""


def host_name() -> str:
    """Return this host's name, fit for a file's."""
    return re.sub(r"[^A-Za-z0-9.-]", "_", os.uname().nodename) or "host"


def save(record: RunRecord, folder: str | None = None) -> list[str]:
    """Write a record down; return what went wrong, in words."""
    folder = folder or records_folder()
    path = os.path.join(folder, f"runs-{host_name()}.jsonl")
    if not _may_be_ours(path):
        path = os.path.join(folder, f"runs-{host_name()}-{os.geteuid()}.jsonl")
    line = json.dumps(record.to_dict(), separators=(",", ":")).encode() + b"\n"
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        file = os.open(path, _APPEND, MODE)
        try:
            status = os.fstat(file)
            if not (stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()):
                raise OSError(errno.EPERM, "is no file of yours", path)
            if stat.S_IMODE(status.st_mode) != MODE:
                os.fchmod(file, MODE)  # an earlier version left it open to all
            _lock(file)
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # somebody was stopped in the middle of a line
            is_whole = os.write(file, line) == len(line)
            os.fsync(file)  # a network file system says only here that it is full
        finally:
            os.close(file)
    except OSError as error:
        return [f"{error.filename or path}: {error.strerror}"]
    return [] if is_whole else [f"{path}: the disk took a part of the line only"]


def _may_be_ours(path: str) -> bool:
    """Tell whether a file is the caller's, or can be: in a folder of several users the first may be another's."""
    try:
        return os.stat(path, follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return True


def _lock(file: int) -> None:
    """Keep other writers out until the file is closed.

    Where there are no locks, or somebody stopped holds one, the line is appended all the same: a
    local disk lets no other append in between, and a record late is better than a run that hangs.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
        except OSError:
            return
        else:
            return


def read_records(folder: str | None = None) -> Records:
    """Return every record of a folder, of whichever host, and of the SQLite store that this one may have from before."""
    folder = folder or records_folder()
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return Records(())
    store = f"runs-{host_name()}.sqlite"
    files = [read_sqlite(os.path.join(folder, store))] if store in names else []
    for name in names:
        if name.startswith("runs-") and name.endswith(".jsonl"):
            files.append(read_lines(os.path.join(folder, name)))
    latest = {(r.run_id, r.rank): r for file in files for r in file.records}
    ordered = sorted(latest.values(), key=lambda r: (r.started, r.run_id, r.rank))
    return Records(tuple(ordered), tuple(place for file in files for place in file.unreadable))


def read_lines(path: str) -> Records:
    """Return the records of a file of lines, in its order."""
    records: list[RunRecord] = []
    unreadable: list[str] = []
    try:
        with open(open_trusted(path), "rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE_BYTES):
                number += 1
                record = _record_of(line)
                if record is not None:
                    records.append(record)
                elif line.strip():
                    unreadable.append(f"{path}:{number}: no record")
    except NotTrusted as distrust:
        return Records((), (str(distrust),))
    except OSError as error:
        return Records((), (f"{path}: {error.strerror}",))
    return Records(tuple(records), tuple(unreadable))


def read_sqlite(path: str) -> Records:
    """Return the records of a store as preflight kept it beside the lines before."""
    try:
        import sqlite3
    except ImportError:  # a Python built without it
        return Records((), (f"{path}: this Python has no sqlite3",))
    try:
        os.close(open_trusted(path))
    except NotTrusted as distrust:
        return Records((), (str(distrust),))
    except OSError as error:
        return Records((), (f"{path}: {error.strerror}",))
    try:
        store = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S)
        try:
            rows = store.execute("SELECT record FROM runs ORDER BY started").fetchall()
        finally:
            store.close()
    except sqlite3.Error as error:
        return Records((), (f"{path}: {error}",))
    records = [_record_of(text) for (text,) in rows]
    return Records(tuple(record for record in records if record is not None))


def _record_of(text: str | bytes) -> RunRecord | None:
    try:
        return record_from_dict(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None

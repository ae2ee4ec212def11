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

from preflight.records.folder import records_folder
from preflight.records.run_record import RunRecord

LOCK_TIMEOUT_S = 30.0
"""How long a rank waits for the others that write; a line takes milliseconds."""
LOCK_PAUSE_S = 0.005
MOST_TRIES = 20
"""To open a file that is replaced at the same time."""
MODE = 0o600
"""What a run took is its user's to show."""
_APPEND = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
        file = _open_locked(path)
        try:
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


def open_own(path: str) -> int:
    """Return a descriptor that reads a file of the caller's and appends to it; one that is not there is made."""
    file = os.open(path, _APPEND, MODE)
    try:
        status = os.fstat(file)
        if not (stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()):
            raise OSError(errno.EPERM, "is no file of yours", path)
        if stat.S_IMODE(status.st_mode) != MODE:
            os.fchmod(file, MODE)  # an earlier version left it open to all
    except OSError:
        os.close(file)
        raise
    return file


def _open_locked(path: str) -> int:
    """Return such a descriptor with other writers kept out, where that can be."""
    for _ in range(MOST_TRIES):
        file = open_own(path)
        lock(file)
        if is_named(file, path):
            return file
        os.close(file)  # a compaction put another in its place while we waited
    raise OSError(errno.ESTALE, "is another file each time that it is opened", path)


def is_named(file: int, path: str) -> bool:
    """Tell whether a file that is open is the one that a path names."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except OSError:
        return False


def _may_be_ours(path: str) -> bool:
    """Tell whether a file is the caller's, or can be: in a folder of several users the first may be another's."""
    try:
        return os.stat(path, follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return True


def lock(file: int) -> bool:
    """Keep other writers out until the file is closed; tell whether that could be done.

    Where there are no locks, or somebody stopped holds one, a line is appended all the same: a
    local disk lets no other append in between, and a record late is better than a run that hangs.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
        except OSError:
            return False
        else:
            return True
    return False

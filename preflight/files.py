"""The files that people name, read by one rule: regular ones alone, no longer than they can be, and what was read is known.

A FIFO is not opened, because its writer sees that and waits; a device may never end. What was read is
known, so that a launch is started only with the files that were judged.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

from preflight.values import NamedTuple

LONGEST_BYTES = 64 * 1024**2
"""Of files that list things: measured runs, indexes of weights."""
LAUNCH_BYTES = 4 * 1024**2
"""Of a config or a script; a hundred thousand keys are half of it."""

_KINDS = (
    (stat.S_ISFIFO, "a pipe, which can be read only once: write it to a file"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


class Seen(NamedTuple):
    """What tells one state of a file from the next."""

    device: int
    inode: int
    size: int
    changed_ns: int


def open_regular(path: str) -> BinaryIO:
    """Open a regular file to read its bytes; raise OSError, with what it is, for everything else."""
    if "\0" in path:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    _refuse_special(os.stat(path), path)
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = open(number, "rb")  # noqa: SIM115
    try:
        status = os.fstat(number)
        _refuse_special(status, path)
    except OSError:
        file.close()
        raise
    for watch in _watches:
        watch.setdefault(os.path.abspath(path), _seen(status))
    return file


def read_bytes(path: str, most: int = LONGEST_BYTES) -> bytes:
    """Return the bytes of a regular file; raise OSError, with its size, where it has more than `most`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = b"" if size > most else file.read(most + 1)
    if max(size, len(data)) > most:
        words = f"it has {max(size, len(data)):,} bytes, and no more than {most:,} are read"
        raise OSError(errno.EFBIG, words, path)
    return data


def read_text(path: str, most: int = LONGEST_BYTES) -> str:
    """Return the text of a regular file with its line ends; UnicodeDecodeError where it is not UTF-8."""
    return read_bytes(path, most).decode()


def readable_text(path: str, most: int = LONGEST_BYTES) -> str:
    """Return what read_text does; empty where a file cannot be read, or is not UTF-8."""
    try:
        return read_text(path, most)
    except (OSError, UnicodeDecodeError):
        return ""


def wrong_kind(path: str) -> str:
    """Return what is wrong with a path that should name a file: it does not exist, it is a folder, a pipe, ..."""
    try:
        _refuse_special(os.stat(path), path)
    except IsADirectoryError:
        return "is a folder"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or ""
        return reason.removeprefix("it ") if reason.startswith("it is ") else "does not exist"
    return ""


@contextmanager
def watched() -> Iterator[Mapping[str, Seen]]:
    """Give what every file that is read inside was when it was read."""
    watch: dict[str, Seen] = {}
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches[:] = [other for other in _watches if other is not watch]


def changed_since(seen: Mapping[str, Seen]) -> tuple[str, ...]:
    """Return the files that are no longer what was read, those that are gone among them."""
    return tuple(path for path, was in seen.items() if _now(path) != was)


_watches: list[dict[str, Seen]] = []


def _now(path: str) -> Seen | None:
    try:
        return _seen(os.stat(path))
    except OSError:
        return None


def _seen(status: os.stat_result) -> Seen:
    return Seen(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _refuse_special(status: os.stat_result, path: str) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    kind = next((words for is_kind, words in _KINDS if is_kind(status.st_mode)), "no file")
    raise OSError(errno.EINVAL, f"it is {kind}", path)


def find_program(name: str, search_path: str) -> str | None:
    """Return a program's path; a plain look, because shutil costs more than it finds."""
    for folder in search_path.split(os.pathsep):
        path = os.path.join(folder, name)
        if folder and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def nearest_with(folder: str, *names: str) -> str | None:
    """Return the folder, or the nearest above it, that has one of some entries; None where none has."""
    folder = os.path.abspath(folder)
    while not any(os.path.exists(os.path.join(folder, name)) for name in names):
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above
    return folder


def entries_of(folder: str) -> tuple[str, ...]:
    """Return the names in a folder, sorted; none where it is not there or not to be read."""
    try:
        return tuple(sorted(os.listdir(folder)))
    except OSError:
        return ()

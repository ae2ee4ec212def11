"""A file that appears whole or not at all: a draft beside it gets its name when it is complete."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from preflight.lazy_pattern import lazy_pattern

DRAFT = lazy_pattern(r"\..{0,50}\.[0-9a-f]{12}\.part", re.DOTALL)
YOUNG_S = 60.0
"""A draft that is younger may be of a writer between two steps."""


def write_whole(
    path: str,
    data: str | bytes,
    mode: int | None = None,
    is_synced: bool = False,
    give_name: Callable[[str, str], None] = os.replace,
    most: int = 0o666,
) -> None:
    """Write a file; raise OSError where that cannot be done, and leave no draft behind.

    `mode` None keeps that of the file which is replaced, and leaves a new one to the umask.
    `is_synced` waits for the disk, for a file that another node reads or a machine boots with.
    `most` has the bits of a new file's mode that the umask may leave.
    `give_name` gets the finished draft and the path.
    """
    # A path of another encoding may be in it, which plain UTF-8 has no bytes for.
    content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    with draft_of(path, mode, most) as (file, draft):
        file.write(content)
        file.flush()
        if is_synced:
            os.fsync(file.fileno())
        give_name(draft, path)


@contextmanager
def draft_of(path: str, mode: int | None, most: int) -> Iterator[tuple[BinaryIO, str]]:
    """Give a draft beside a path, open to be written, and its name; one that got no other name inside is removed.

    Its lock is held until the end, whatever its name is by then.
    """
    folder, name = os.path.split(path)
    # The name is cut: with what stands around it, it may not be longer than 255 bytes.
    draft = os.path.join(folder, f".{name[:50]}.{os.urandom(6).hex()}.part")
    number = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, most)
    try:
        with open(number, "wb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            wanted = _mode_of(path) if mode is None else mode
            if wanted is not None and wanted != _mode_of(draft):
                os.fchmod(number, wanted)
            yield file, draft
    finally:
        with suppress(OSError):  # it has its name already
            os.unlink(draft)
    remove_left_behind(folder or os.curdir)


def remove_left_behind(folder: str) -> None:
    """Remove drafts whose writer was killed: nobody holds their lock, and nobody has written to them for a while."""
    with suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in entries if DRAFT.fullmatch(entry.name)]
        for name in names:
            with suppress(OSError):
                _remove_if_left(os.path.join(folder, name))


def _remove_if_left(draft: str) -> None:
    number = os.open(draft, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(number).st_mtime > YOUNG_S:
            os.unlink(draft)
    finally:
        os.close(number)


def _mode_of(path: str) -> int | None:
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        return None

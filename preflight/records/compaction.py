"""Lines that a later line of the same rank replaced are left out of a file of records; every record stays as it is.

The whole file is read without a lock, for minutes where it is large, and trainings go on appending to it: only what came
in meanwhile is copied under the lock. A process that is killed leaves the file of before, or the new one.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from typing import BinaryIO

from preflight.records.run_files import LONGEST_LINE_BYTES
from preflight.records.run_index import LINES_PER_WORD, number_of, record_of
from preflight.records.run_store import MODE, host_name, is_named, lock, open_own
from preflight.values import dataclass
from preflight.whole_file import draft_of

COPIED_BYTES = 1 << 20


@dataclass(frozen=True)
class Compacted:
    """What became of a file."""

    path: str
    num_lines_before: int
    num_lines_after: int
    num_bytes_before: int
    num_bytes_after: int


def own_files(folder: str) -> list[str]:
    """Return the caller's files of this host in a folder: those of other hosts may be written there right now."""
    names = (f"runs-{host_name()}.jsonl", f"runs-{host_name()}-{os.geteuid()}.jsonl")
    paths = [os.path.join(folder, name) for name in names]
    return [path for path in paths if _is_own(path)]


def _is_own(path: str) -> bool:
    try:
        return os.stat(path, follow_symlinks=False).st_uid == os.geteuid()
    except OSError:
        return False


def compact(path: str, tell: Callable[[int], None] = lambda done: None) -> Compacted:
    """Rewrite a file without lines that were replaced; raise OSError where that cannot be done, the file as it was.

    `tell` is told how many bytes are done, of twice those of the file.
    """
    with open(open_own(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        is_kept = _kept_lines(file, size, tell)
        if all(is_kept):
            return Compacted(path, len(is_kept), len(is_kept), size, size)
        with draft_of(path, MODE, MODE) as (draft, draft_name):
            copied = 0
            for number, text in enumerate(_lines(file, size)):
                copied += len(text)
                if is_kept[number]:
                    draft.write(text)
                if number % LINES_PER_WORD == 0:
                    tell(size + copied)
            _sync(draft)
            _replace(path, file.fileno(), copied, draft, draft_name)
            return Compacted(path, len(is_kept), sum(is_kept), size, draft.tell())


def _lines(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Return the whole lines of the first so many bytes; what a writer is in the middle of is none."""
    file.seek(at := 0)
    while text := file.readline(LONGEST_LINE_BYTES):
        at += len(text)
        if at > size or (at == size and not text.endswith(b"\n")):
            return
        yield text


def _kept_lines(file: BinaryIO, size: int, tell: Callable[[int], None]) -> bytearray:
    """Return for each line whether it stays: every last line of a rank of a run, and all that is no record."""
    keys, numbers, is_kept = array("Q"), array("Q"), bytearray()
    done = 0
    for number, text in enumerate(_lines(file, size)):
        done += len(text)
        if number % LINES_PER_WORD == 0:
            tell(done)
        record = record_of(text)
        is_kept.append(record is None)
        if record is not None:
            keys.append(number_of(f"{record.rank} {record.run_id}"))
            numbers.append(number)
    order = array("Q", sorted(range(len(keys)), key=keys.__getitem__))
    for at, following in zip_longest(order, islice(order, 1, None)):
        # Lines of one rank are in their order.
        if following is None or keys[at] != keys[following]:
            is_kept[numbers[at]] = True
    return is_kept


def _replace(path: str, number: int, copied: int, draft: BinaryIO, draft_name: str) -> None:
    """Add what was appended since to a draft, and give it the name, with all writers kept out."""
    if not lock(number):
        raise OSError(errno.ENOLCK, "its lock is not to be had", path)
    if not is_named(number, path):
        raise OSError(errno.ESTALE, "is another file by now", path)
    copied += _copy_rest(number, copied, draft)
    os.replace(draft_name, path)
    # A writer that waited too long for the lock appends without it.
    _copy_rest(number, copied, draft)


def _copy_rest(number: int, at: int, draft: BinaryIO) -> int:
    total = 0
    while data := os.pread(number, COPIED_BYTES, at + total):
        draft.write(data)
        total += len(data)
    _sync(draft)
    return total


def _sync(draft: BinaryIO) -> None:
    draft.flush()
    os.fsync(draft.fileno())

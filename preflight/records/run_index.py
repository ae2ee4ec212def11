"""Every record of a folder in a hundred bytes: where it stands, and the numbers that corrections are made of.

A site that keeps its records for years has millions of lines, and a process of a login node may have little memory. So
each line is read once and dropped; the few records that are shown are read again from their place.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator

from preflight.lazy_pattern import lazy_pattern
from preflight.records.found_corrections import corrections_of
from preflight.records.run_files import Line, RecordFile, RecordFiles
from preflight.records.run_numbers import Card, FinishedRun, RankNumbers, card_of, numbers_of
from preflight.records.run_record import DONE, RUNNING, RunRecord, record_from_dict
from preflight.records.site_correction import Correction, write_corrections

MOST_NAMED = 1000
"""Places of what is no record that are named; a folder of another schema may have millions."""
MOST_OPEN = 100_000
"""Ranks whose last word is looked for while reading; what has none by then is found by sorting."""
LINES_PER_WORD = 500
"""Lines between two words about progress."""
_SECRET = os.urandom(16)
_FILE_SHIFT = 48
"""Bits of a place inside its file; the file's number stands above them."""
_NONE = -1


def record_of(text: bytes) -> RunRecord | None:
    """Return the record of a line; None where it is none."""
    try:
        return record_from_dict(json.loads(text))
    except (ValueError, TypeError, RecursionError):
        return None


def number_of(text: str) -> int:
    """Return a number of eight bytes that stands for a text in this process; nobody can make two texts share one."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, key=_SECRET).digest(), "little")


class RunIndex:
    """The records of some files, each rank of a run once: its last one."""

    def __init__(self, files: RecordFiles, tell: Callable[[int], None] = lambda done: None) -> None:
        """Read every line; `tell` is told how many bytes are read."""
        self._files = files.files
        self.unreadable = list(files.unreadable)
        self.num_unreadable = len(files.unreadable)
        self._run, self._rank, self._started, self._place = (array("Q") for _ in range(4))
        self._device, self._flags = array("L"), array("B")
        self._numbers = array("q")
        """Of each record, the fields of RankNumbers in their order."""
        self._cards: dict[Card, int] = {}
        self._read(tell)
        self._order, self._starts = self._grouped()

    def __len__(self) -> int:
        return len(self._starts)

    def runs(self, last: int = 0) -> Iterator[list[RunRecord]]:
        """Read runs again, the oldest first: the newest so many, or all of them."""
        numbers: Iterable[int] = range(len(self._starts))
        if last:
            numbers = heapq.nlargest(last, numbers, key=self._run_started)
        # Those of one second in the order in which they were read: keys of two parts would take twice the memory.
        in_file = sorted(numbers, key=lambda number: self._order[self._starts[number]])
        in_file.sort(key=self._run_started)
        for number in array("Q", in_file):
            records = [self._record_at(slot) for slot in self._slots(number)]
            yield [record for record in records if record is not None]

    def finished(self) -> Iterator[FinishedRun]:
        """Return the finished runs on GPUs, in no order."""
        cards = list(self._cards)
        for number in range(len(self._starts)):
            slots = self._slots(number)
            card = cards[self._device[slots[0]]]
            if card.kind == "cuda" and all(self._flags[slot] & _DONE for slot in slots):
                is_alone = bool(self._flags[slots[0]] & _ALONE)
                yield FinishedRun(card, is_alone, [self._numbers_at(slot) for slot in slots])

    # Reading

    def _read(self, tell: Callable[[int], None]) -> None:
        unended: dict[tuple[int, int], int] = {}
        bytes_before = 0
        for file_number, file in enumerate(self._files):
            bytes_read = 0
            for line in self._lines_of(file):
                bytes_read += len(line.text)
                if line.number % LINES_PER_WORD == 0:
                    tell(bytes_before + bytes_read)
                record = record_of(line.text)
                if record is not None:
                    self._take(record, file_number << _FILE_SHIFT | line.place, unended)
                elif line.text.strip():
                    self._pass_over(f"{file.path}:{line.number}: no record")
                if len(unended) > MOST_OPEN:
                    unended.clear()
            bytes_before += bytes_read

    def _lines_of(self, file: RecordFile) -> Iterator[Line]:
        try:
            yield from file.lines()
        except OSError as error:
            self._pass_over(f"{file.path}: {error.strerror}")

    def _pass_over(self, place: str) -> None:
        self.num_unreadable += 1
        if self.num_unreadable <= MOST_NAMED:
            self.unreadable.append(place)

    def _take(self, record: RunRecord, place: int, unended: dict[tuple[int, int], int]) -> None:
        key = number_of(record.run_id), record.rank
        slot = unended.pop(key, None)
        if slot is None:
            slot = len(self._run)
            self._run.append(key[0])
            self._rank.append(key[1])
            for column in (self._started, self._place, self._device, self._flags):
                column.append(0)
            self._numbers.extend(_NO_NUMBERS)
        if record.outcome == RUNNING:
            unended[key] = slot
        self._started[slot] = _moment(record.started)
        self._place[slot] = place
        self._device[slot] = self._cards.setdefault(card_of(record), len(self._cards))
        self._flags[slot] = (record.outcome == DONE) * _DONE | (record.world_size == 1) * _ALONE
        start = slot * len(_NO_NUMBERS)
        for at, value in enumerate(numbers_of(record), start):
            self._numbers[at] = _NONE if value is None else value

    def _grouped(self) -> tuple[array[int], array[int]]:
        """Return the records with those of a run together, each rank once, and where in it every run begins."""
        run, rank, started = self._run, self._rank, self._started
        order, starts = array("Q"), array("Q")
        together = array("Q", sorted(range(len(run)), key=run.__getitem__))
        at, end = 0, len(together)
        while at < end:
            first = at
            while at < end and run[together[at]] == run[together[first]]:
                at += 1
            latest = {rank[slot]: slot for slot in together[first:at]}
            starts.append(len(order))
            order.extend(sorted(latest.values(), key=lambda slot: (started[slot], rank[slot])))
        return order, starts

    # Asking

    def _slots(self, number: int) -> array[int]:
        end = self._starts[number + 1] if number + 1 < len(self._starts) else len(self._order)
        return self._order[self._starts[number] : end]

    def _run_started(self, number: int) -> int:
        return self._started[self._order[self._starts[number]]]

    def _record_at(self, slot: int) -> RunRecord | None:
        place = self._place[slot]
        file = self._files[place >> _FILE_SHIFT]
        return record_of(file.at(place & ((1 << _FILE_SHIFT) - 1)))

    def _numbers_at(self, slot: int) -> RankNumbers:
        start = slot * len(_NO_NUMBERS)
        values = self._numbers[start : start + len(_NO_NUMBERS)]
        outside, context, nccl, *peaks = (None if value == _NONE else value for value in values)
        return RankNumbers(outside, context or 0, nccl or 0, *peaks)


def renew_corrections(
    folder: str | None = None, most_bytes: int | None = None
) -> dict[str, Correction]:
    """Work the corrections of a folder out anew and keep them; return them, none where there is too much to read."""
    with RecordFiles(folder) as files:
        if most_bytes is not None and files.num_bytes > most_bytes:
            return {}
        corrections = corrections_of(RunIndex(files).finished())
    write_corrections(corrections, files.folder)
    return corrections


_DONE, _ALONE = 1, 2
_NO_NUMBERS = array("q", [_NONE] * len(RankNumbers._fields))
_NO_DIGIT = lazy_pattern(r"[^0-9]+")


def _moment(started: str) -> int:
    """Return a number that orders times as their ISO 8601 text does."""
    return int(_NO_DIGIT.sub("", started[:40])[:17].ljust(17, "0"))

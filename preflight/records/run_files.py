"""The files of records, read a line at a time: no file is ever held whole, and a line can be read again by its place."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType
from typing import BinaryIO, Protocol

from preflight.files import entries_of
from preflight.records.folder import records_folder
from preflight.records.run_store import LOCK_TIMEOUT_S, host_name
from preflight.trust import NotTrusted, open_trusted
from preflight.values import NamedTuple

LONGEST_LINE_BYTES = 1 << 20
"""A record has a few thousand; what is no line is read in pieces that are no records."""

MOST_OPEN_FILES = 200
"""At once; a process may have 1,024, and a site more hosts."""


class Line(NamedTuple):
    """One line, and where it stands."""

    place: int
    """What reads it again."""
    number: int
    """From 1, for people."""
    text: bytes


class RecordFile(Protocol):
    """One file of records, open until it is closed."""

    path: str
    num_bytes: int

    def lines(self) -> Iterator[Line]: ...
    def at(self, place: int) -> bytes: ...
    def close(self) -> None: ...


class LinesFile:
    """A file of lines of JSON. A compaction that puts another in its place meanwhile leaves this one as it was.

    One of very many is open only while it is read; what another took the place of is not read again then.
    """

    def __init__(self, path: str, stays_open: bool = True) -> None:
        self.path = path
        self._file: BinaryIO | None = open(open_trusted(path), "rb")  # noqa: SIM115
        self._status = os.fstat(self._file.fileno())
        self.num_bytes = self._status.st_size
        if not stays_open:
            self.close()

    def lines(self) -> Iterator[Line]:
        with self._opened() as file:
            place = number = 0
            file.seek(0)
            while text := file.readline(LONGEST_LINE_BYTES):
                number += 1
                yield Line(place, number, text)
                place += len(text)

    def at(self, place: int) -> bytes:
        with self._opened() as file:
            file.seek(place)
            return file.readline(LONGEST_LINE_BYTES)

    @contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        if self._file is not None:
            yield self._file
            return
        with self._again() as file:
            yield file

    def _again(self) -> BinaryIO:
        """Open the file once more; nothing is in it where another took its place."""
        try:
            file = open(open_trusted(self.path), "rb")  # noqa: SIM115
        except (OSError, NotTrusted):
            return io.BytesIO()
        if os.path.samestat(os.fstat(file.fileno()), self._status):
            return file
        file.close()
        return io.BytesIO()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class OldStore:
    """An SQLite store as preflight kept it beside the lines before; raises OSError for what is none."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.close(open_trusted(path))
        try:
            import sqlite3
        except ImportError:  # a Python built without it
            raise OSError(0, "this Python has no sqlite3", path) from None
        self._store = sqlite3.connect(path, timeout=LOCK_TIMEOUT_S)
        try:
            self._store.execute("SELECT record FROM runs LIMIT 1").fetchall()
        except sqlite3.Error as error:
            self._store.close()
            raise OSError(0, str(error), path) from error
        self.num_bytes = os.stat(path).st_size

    def lines(self) -> Iterator[Line]:
        import sqlite3

        asked = "SELECT rowid, record FROM runs ORDER BY started"
        try:
            for place, text in self._store.execute(asked):
                yield Line(place, place, str(text).encode("utf-8", "surrogatepass"))
        except sqlite3.Error as error:
            raise OSError(0, str(error), self.path) from error

    def at(self, place: int) -> bytes:
        row = self._store.execute("SELECT record FROM runs WHERE rowid = ?", (place,)).fetchone()
        return b"" if row is None else str(row[0]).encode("utf-8", "surrogatepass")

    def close(self) -> None:
        self._store.close()


class RecordFiles:
    """The files of a folder, of whichever host, and the SQLite store that this one may have from before."""

    def __init__(self, folder: str | None = None) -> None:
        self.folder = folder or records_folder()
        self.files: list[RecordFile] = []
        self.unreadable: list[str] = []
        """Files that are passed over, and why."""
        self._open = ExitStack()
        names = entries_of(self.folder)
        store = f"runs-{host_name()}.sqlite"
        if store in names:
            self._add(OldStore, store)
        for name in names:
            if name.startswith("runs-") and name.endswith(".jsonl"):
                stays_open = len(self.files) < MOST_OPEN_FILES
                self._add(partial(LinesFile, stays_open=stays_open), name)

    def _add(self, make: Callable[[str], RecordFile], name: str) -> None:
        path = os.path.join(self.folder, name)
        try:
            file = make(path)
        except NotTrusted as distrust:
            self.unreadable.append(str(distrust))
        except OSError as error:
            self.unreadable.append(f"{path}: {error.strerror}")
        else:
            self.files.append(file)
            self._open.callback(file.close)

    @property
    def num_bytes(self) -> int:
        return sum(file.num_bytes for file in self.files)

    def __enter__(self) -> RecordFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

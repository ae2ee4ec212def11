"""Where output goes. A stream that is closed, full or left by its reader costs words, never a launch.

`protected` is for a process of our own: its standard streams take everything, and remember what they
could not pass on. `say` is for any process: a training that somebody else started has its own streams.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, TextIO

from preflight.printable import printable

PATIENCE_S = 30.0
"""How long a reader of a pipe that does not block may take for its next bytes."""


class Outlet(io.RawIOBase):
    """One descriptor that takes everything: from the first failure on, what is written is dropped."""

    def __init__(self, number: int | None) -> None:
        super().__init__()
        self.number = number
        self.error: OSError | None = None

    def write(self, data: object) -> int:
        content = memoryview(data)  # type: ignore[arg-type]
        if self.number is None:
            self.error = self.error or OSError(errno.EBADF, "it is closed")
        if self.error is None:
            try:
                _write(self.number or 0, content)
            except OSError as error:
                self.error = error
        return content.nbytes

    def fileno(self) -> int:
        return super().fileno() if self.number is None else self.number

    def isatty(self) -> bool:
        return self.number is not None and os.isatty(self.number)

    def writable(self) -> bool:
        return True


@contextmanager
def protected() -> Iterator[tuple[Outlet, Outlet]]:
    """Put outlets in the place of this process's stdout and stderr inside; give both.

    A stream that somebody replaced, as tests do, stays.
    """
    before = sys.stdout, sys.stderr
    if None in (sys.__stdout__, sys.__stderr__):
        _occupy()
    outlets = Outlet(None if before[0] is None else 1), Outlet(None if before[1] is None else 2)
    if before[0] is sys.__stdout__:
        sys.stdout = _text(outlets[0], before[0])
    if before[1] is sys.__stderr__:
        sys.stderr = _text(outlets[1], before[1])
    try:
        yield outlets
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        sys.stdout, sys.stderr = before


def say(text: str, stream: IO[str] | None = None) -> None:
    """Write a text to a stream, stderr where none is given, in one piece; never raise for the stream's sake.

    Control characters are shown and not sent: what is told of a file is told to a terminal.
    """
    target = sys.stderr if stream is None else stream
    if target is not None:
        _say(printable(text), target)


def _say(text: str, stream: IO[str]) -> None:
    try:
        if stream in (sys.__stderr__, sys.__stdout__):
            # What a stream keeps and cannot write fails once more when the process ends, and is its exit code.
            stream.flush()
            encoding = getattr(stream, "encoding", None) or "utf-8"
            _write(stream.fileno(), memoryview(text.encode(encoding, "backslashreplace")))
        else:
            stream.write(text)
            stream.flush()
    except (OSError, ValueError):
        return


def is_terminal(stream: IO[str] | None) -> bool:
    """Tell whether a person looks at a stream; nobody looks at one that is closed."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def _write(number: int, data: memoryview) -> None:
    while data.nbytes:
        try:
            data = data[os.write(number, data) :]
        except BlockingIOError:
            if not select.select((), (number,), (), PATIENCE_S)[1]:
                raise


def _text(outlet: Outlet, stream: TextIO | None) -> io.TextIOWrapper:
    with suppress(OSError, ValueError):
        if stream is not None:
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding="utf-8" if stream is None else stream.encoding,
        # A path may hold what the terminal's encoding cannot say: show it escaped, never fail on it.
        errors="backslashreplace",
        line_buffering=outlet.isatty(),
    )


def _occupy() -> None:
    """Take the free ones of the first three descriptors, so that no file we open becomes somebody's stdout.

    What is started gets them closed, as we did: Python's descriptors are not inherited.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)

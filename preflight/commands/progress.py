"""Progress of work that takes longer than people wait: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BEFORE_PROGRESS = 2.0
SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(total: int, things: str) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many of `total` things are done; it says so on stderr.

    Nothing is shown in the first two seconds.
    """
    import time

    started = time.monotonic()
    shown = started - SECONDS_BETWEEN_LINES
    bar = None
    task = None

    def done(count: int) -> None:
        nonlocal bar, task, shown
        now = time.monotonic()
        if now - started < SECONDS_BEFORE_PROGRESS:
            return
        if sys.stderr.isatty():
            if bar is None:
                from rich.console import Console
                from rich.progress import Progress

                # Not stdout: that is the report's, or the training script's.
                bar = Progress(transient=True, console=Console(stderr=True))
                bar.start()
                task = bar.add_task(things, total=total)
            assert task is not None
            bar.update(task, completed=count)
        elif now - shown >= SECONDS_BETWEEN_LINES:
            shown = now
            sys.stderr.write(f"preflight: {count:,} of {total:,} {things}\n")
            sys.stderr.flush()

    try:
        yield done
    finally:
        if bar is not None:
            bar.stop()

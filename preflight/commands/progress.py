"""Progress of work that takes longer than people wait: rich's bar or line on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from preflight.streams import is_terminal, say

SECONDS_BEFORE_PROGRESS = 2.0
"""Nothing is shown of what is done sooner, and rich is not imported for it."""
SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(total: int, things: str) -> Iterator[Callable[[int], None]]:
    """Give a function that is told how many of `total` things are done; it says so on stderr."""
    started = time.monotonic()
    shown = started - SECONDS_BETWEEN_LINES
    bar = None
    with ExitStack() as open_bars:

        def done(count: int) -> None:
            nonlocal bar, shown
            now = time.monotonic()
            if now - started < SECONDS_BEFORE_PROGRESS:
                return
            if is_terminal(sys.stderr):
                if bar is None:
                    from rich.console import Console
                    from rich.progress import Progress

                    # Not stdout: that is the report's, or the training script's.
                    bar = Progress(transient=True, console=Console(stderr=True))
                    bar.add_task(things, total=total)
                    open_bars.enter_context(bar)
                bar.update(bar.task_ids[0], completed=count)
            elif now - shown >= SECONDS_BETWEEN_LINES:
                shown = now
                _say(f"{count:,} of {total:,} {things}")

        yield done


@contextmanager
def steps(work: str, seconds_between_lines: float = 0.0) -> Iterator[Callable[[str], None]]:
    """Give a function that is told what is being done now; it says so on stderr, in a log not more often than said."""
    started = time.monotonic()
    shown = started - seconds_between_lines
    status = None
    with ExitStack() as open_lines:

        def doing(step: str) -> None:
            nonlocal status, shown
            now = time.monotonic()
            if now - started < SECONDS_BEFORE_PROGRESS:
                return
            if not is_terminal(sys.stderr):
                if now - shown >= seconds_between_lines:
                    shown = now
                    _say(f"{work}, {step}")
            elif status is not None:
                status.update(f"preflight: {work}, {step}")
            else:
                from rich.console import Console

                line = Console(stderr=True).status(f"preflight: {work}, {step}", spinner="line")
                status = open_lines.enter_context(line)

        yield doing


def _say(text: str) -> None:
    say(f"preflight: {text}\n")

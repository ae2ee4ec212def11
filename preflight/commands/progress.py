"""Progress of work that takes longer than people wait: rich's bar or line on a terminal, plain lines in a log.

What is under way after two seconds is shown then, whether or not the work has said anything since: an import
of torch or the first batch of a tokenizer says nothing for longer than that.
"""

from __future__ import annotations

import sys
import threading
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
    count = 0
    bar = None

    def draw(open_bars: ExitStack) -> None:
        nonlocal bar
        if bar is None:
            from rich.console import Console
            from rich.progress import Progress

            # Not stdout: that is the report's, or the training script's.
            bar = Progress(transient=True, console=Console(stderr=True))
            bar.add_task(things, total=total)
            open_bars.enter_context(bar)
        bar.update(bar.task_ids[0], completed=count)

    with _shown(draw, lambda: f"{count:,} of {total:,} {things}", SECONDS_BETWEEN_LINES) as show:

        def done(so_far: int) -> None:
            nonlocal count
            count = so_far
            show()

        yield done


@contextmanager
def steps(work: str, seconds_between_lines: float = 0.0) -> Iterator[Callable[[str], None]]:
    """Give a function that is told what is being done now; it says so on stderr, in a log not more often than said."""
    words = work
    status = None

    def draw(open_lines: ExitStack) -> None:
        nonlocal status
        if status is None:
            from rich.console import Console

            line = Console(stderr=True).status(f"preflight: {words}", spinner="line")
            status = open_lines.enter_context(line)
        status.update(f"preflight: {words}")

    with _shown(draw, lambda: words, seconds_between_lines) as show:

        def doing(step: str) -> None:
            nonlocal words
            words = f"{work}, {step}"
            show()

        yield doing


@contextmanager
def _shown(
    draw: Callable[[ExitStack], None], words: Callable[[], str], seconds_between_lines: float
) -> Iterator[Callable[[], None]]:
    """Give a function that shows how far work is: drawn on a terminal, in words in a log, and never too soon."""
    started = time.monotonic()
    last_line = started - seconds_between_lines
    one_at_a_time = threading.Lock()

    def show() -> None:
        nonlocal last_line
        now = time.monotonic()
        if now - started < SECONDS_BEFORE_PROGRESS:
            return
        with one_at_a_time:
            unasked.cancel()
            if is_terminal(sys.stderr):
                draw(drawn)
            elif now - last_line >= seconds_between_lines:
                last_line = now
                say(f"preflight: {words()}\n")

    with ExitStack() as drawn:
        unasked = threading.Timer(SECONDS_BEFORE_PROGRESS + 0.1, show)
        unasked.daemon = True
        unasked.start()
        try:
            yield show
        finally:
            unasked.cancel()
            unasked.join()

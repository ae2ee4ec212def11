"""A loop that everything is held to which may not take long: seconds say nothing on a busy machine, or on another."""

from __future__ import annotations

import time
from collections.abc import Callable

LOOPS = 1_000_000
"""35 ms of Python where bounds are chosen."""


def loop_seconds() -> float:
    """Return the seconds of this process that the loop takes now, the least of three."""
    return least_seconds(_loop, 3)


def least_seconds(call: Callable[[], object], rounds: int) -> float:
    """Return the seconds of this process that a call takes, the least of several."""
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return min(taken)


def _loop() -> None:
    for number in range(LOOPS):
        number += 1

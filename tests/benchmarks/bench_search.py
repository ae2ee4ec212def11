"""Measures the search for remedies on the twenty launches that do not fit, against `python -c pass`.

    python tests/benchmarks/bench_search.py [NUM_ROUNDS] [--markdown]

The search is all that follows the first verdict but the advice: safe remedies, their rewrite read again, and
suggestions. `all levers` is the same with every remedy asked for that keeps training and is not proved yet.
Each number is the shortest of its rounds, in turn with the empty process, so a busy machine slows both.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from unfit_launches import CASES, command_of, request_of

from preflight import pipeline
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.remedy import UNPROVED

WANTED_MS = 50
"""At most, for a plan of a 70B model with all levers on."""


class Clock:
    """Seconds spent in some functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **named: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def seconds_of_search(name: str, policy: Policy, plugins: PluginManager, clock: Clock) -> float:
    """Check a launch and return what the search in it took."""
    clock.seconds = 0.0
    request = pipeline.Request(device=request_of(name).device, policy=policy)
    pipeline.check_launch(command_of(name), plugins, request)
    return clock.seconds


def empty_process() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    num_rounds = int(words[0]) if words else 7
    policies = (Policy(), Policy(allow=frozenset(UNPROVED)))
    plugins = load_plugins()
    clock = Clock()
    pipeline.treat = clock.around(pipeline.treat)
    pipeline.suggest = clock.around(pipeline.suggest)
    best: dict[str, list[float]] = {name: [1e9, 1e9] for name in CASES}
    empty = 1e9
    for _ in range(num_rounds):
        for name in CASES:
            empty = min(empty, empty_process())
            for place, policy in enumerate(policies):
                seconds = seconds_of_search(name, policy, plugins, clock)
                best[name][place] = min(best[name][place], seconds)
    is_markdown = "--markdown" in sys.argv
    line = "| {} | {} | {} | {} | {} |" if is_markdown else "{:<24}{:>8}{:>12}{:>12}{:>12}"
    print(line.format("launch", "ms", "all levers", "times pass", "all levers"))
    if is_markdown:
        print("|---|--:|--:|--:|--:|")
    for name, times in best.items():
        cells = [f"{1000 * s:.1f}" for s in times] + [f"{s / empty:.1f}" for s in times]
        print(line.format(name, *cells))
    slowest = max(max(times) for times in best.values())
    print(
        f"\npython -c pass: {1000 * empty:.1f} ms; slowest search {1000 * slowest:.1f} ms,"
        f" wanted {WANTED_MS}; {num_rounds} rounds"
    )


if __name__ == "__main__":
    main()

"""Every Python process of a launch runs this file as it starts: it writes down its command, and how many optimizer steps it took.

It stands alone: the processes are of environments that have nothing else of ours.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import os
import sys
import time
from typing import Any

STEPS: list[str] = []
"""The class of the optimizer, once for every step."""


class CountSteps:
    """A finder that lets the usual ones find torch's optimizers, and has every step of them counted."""

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> Any:
        if name != "torch.optim.optimizer":
            return None
        sys.meta_path.remove(cls)  # type: ignore[arg-type]
        spec: Any = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            module.register_optimizer_step_post_hook(
                lambda optimizer, *_: STEPS.append(type(optimizer).__name__)
            )

        spec.loader.exec_module = exec_module
        return spec


def write(file: str) -> None:
    """Write down this process."""
    with open(file, "w", encoding="utf-8") as out:
        json.dump({"argv": sys.orig_argv, "steps": STEPS}, out)


if "PREFLIGHT_TEST_SEEN" in os.environ:
    seen = os.path.join(os.environ["PREFLIGHT_TEST_SEEN"], f"{time.time_ns()}-{os.getpid()}.json")
    write(seen)
    atexit.register(write, seen)
    sys.meta_path.insert(0, CountSteps)  # type: ignore[arg-type]

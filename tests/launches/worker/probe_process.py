"""Writes down that a Python process started, and what it had done when it ended."""

from __future__ import annotations

import atexit
import json
import os
import sys
import time


def record(pid: int, argv: list[str]) -> None:
    """Write `process-PID-TIME.json` now, and once more when the interpreter ends.

    An exec keeps the pid, so a process that becomes another one leaves two files.
    """
    path = os.path.join(
        os.environ["PREFLIGHT_TEST_PROBE"], f"process-{pid}-{time.monotonic_ns()}.json"
    )
    facts = {
        "pid": pid,
        "argv": argv,
        "local_rank": os.environ.get("LOCAL_RANK"),
        "ended": False,
    }

    def write() -> None:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(facts, file)

    def at_exit() -> None:
        facts["ended"] = True
        facts["torch_imported"] = "torch" in sys.modules
        write()

    write()
    atexit.register(at_exit)

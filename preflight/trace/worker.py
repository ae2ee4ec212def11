"""The process that traces: a job as JSON on stdin, progress and the result as JSON lines on stdout.

It leaves without tearing the interpreter down, which takes longer than many traces. A process of its
own, because a tensor on a device that is not there can abort the interpreter.
"""

from __future__ import annotations

import json
import os
import sys
from typing import IO, Any, NoReturn


def main() -> NoReturn:
    """Trace the job on stdin and leave."""
    import gc

    gc.disable()  # a short process: collecting takes longer than what it would free
    lines = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is not ours to parse
    code = 0
    try:
        _answer(json.load(sys.stdin), lines)
    except Exception:
        import traceback

        traceback.print_exc()
        code = 1
    lines.flush()
    sys.stderr.flush()
    os._exit(code)


def _answer(values: dict[str, Any], lines: IO[str]) -> None:
    import time

    from preflight.errors import BadInput
    from preflight.trace.imports import import_libraries
    from preflight.trace.job import job_from_dict

    def say(**message: Any) -> None:
        lines.write(json.dumps(message) + "\n")

    started = time.monotonic()
    job = job_from_dict(values)
    say(progress="importing torch and transformers")
    try:
        import_libraries(job)
        from preflight.trace.result import TraceResult, traced_phases
        from preflight.trace.run import trace
        from preflight.trace.timeline import timeline_of

        done = trace(job, lambda text: say(progress=text))
    except BadInput as error:
        say(problems=[[p.message, p.where, p.fix] for p in error.problems])
        return
    result = TraceResult(
        traced_phases(done.levels),
        timeline_of(done.levels),
        done.depth.num_layers,
        len(done.depth.kept),
        time.monotonic() - started,
        {},
    )
    say(result=result.to_dict())


if __name__ == "__main__":
    main()

"""Running a trace: from the cache where it is known, else in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import IO

from preflight.errors import BadInput, PreflightError, Problem
from preflight.streams import say
from preflight.trace.job import TraceJob
from preflight.trace.kept import PACKAGE, cache_path, keep, library_versions, read_kept
from preflight.trace.result import TraceResult, result_from_dict

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
}
"""Nothing is downloaded, and a GPU of this machine changes nothing."""


class TraceFailed(PreflightError):
    """The tracing process died of something that is not the user's."""


def run_trace(job: TraceJob, use_cache: bool, progress: Callable[[str], None]) -> TraceResult:
    """Return the result of a job; raise BadInput where libraries are missing or the model cannot be traced."""
    import time

    versions = library_versions(job)
    path = cache_path(job, versions)
    if use_cache:
        cached = read_kept(path)
        if cached is not None:
            return cached
    result = _run(job, progress)
    result = replace(result, versions=versions, traced_on=time.strftime("%Y-%m-%d"))
    if use_cache:
        keep(path, result.to_dict())
    return result


def _run(job: TraceJob, progress: Callable[[str], None]) -> TraceResult:
    import subprocess
    import sys
    import tempfile
    from contextlib import ExitStack

    root = os.path.dirname(os.path.dirname(PACKAGE))
    with ExitStack() as stack:
        complaints = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        modules = {}
        if job.folder is not None:
            # transformers imports a copy of the folder's code; traces beside each other must not share it.
            copy = stack.enter_context(tempfile.TemporaryDirectory(prefix="preflight-code-"))
            modules = {"HF_MODULES_CACHE": copy}
        worker = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "preflight.trace.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            cwd=root,
            env={**os.environ, **QUIET, **modules},
        )
        try:
            assert worker.stdin is not None
            assert worker.stdout is not None
            json.dump(job.to_dict(), worker.stdin)
            worker.stdin.close()
            result = _listen(worker.stdout, progress)
        except BaseException:
            worker.kill()
            worker.wait()
            raise
        code = worker.wait()
        if result is None:
            complaints.seek(0)
            raise _failure(code, complaints.read(), job)
    return result


def _listen(lines: IO[str], progress: Callable[[str], None]) -> TraceResult | None:
    result = None
    for line in lines:
        message = json.loads(line)
        if "progress" in message:
            progress(message["progress"])
        elif "problems" in message:
            raise BadInput(*(Problem(*values) for values in message["problems"]))
        else:
            result = result_from_dict(message["result"])
    return result


def _failure(code: int, stderr: str, job: TraceJob) -> PreflightError:
    """Return what to raise for a process that died: a model that PyTorch cannot run without data, or a bug."""
    if os.environ.get("PREFLIGHT_TRACE"):
        say(stderr)
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    if code < 0 or not last:
        return TraceFailed(f"the tracing process ended with {code}: {last}")
    model_type = job.config.get("model_type", "this model")
    return BadInput.one(
        f"{model_type} cannot be traced: {last.strip()}",
        fix="PREFLIGHT_TRACE=1 prints where; the formulas of `preflight check` do not need a trace",
    )

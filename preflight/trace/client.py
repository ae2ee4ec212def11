"""Running a trace: from the cache where it is known, else in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import IO, Any

from preflight.errors import BadInput, PreflightError, Problem
from preflight.trace.eight_bit import BITSANDBYTES
from preflight.trace.job import TraceJob
from preflight.trace.result import TraceResult, result_from_dict

LIBRARIES = ("torch", "transformers")
INSTALL = 'pip install "launch-preflight[trace]"'
PACKAGE = os.path.dirname(os.path.abspath(__file__))
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "CUDA_VISIBLE_DEVICES": "",
}
"""Nothing is downloaded, and a GPU of this machine changes nothing."""


class TraceFailed(PreflightError):
    """The tracing process died of something that is not the user's."""


def run_trace(
    job: TraceJob, use_cache: bool = True, progress: Callable[[str], None] = lambda text: None
) -> TraceResult:
    """Return the result of a job; raise BadInput where libraries are missing or the model cannot be traced."""
    versions = library_versions(job)
    path = cache_path(job, versions)
    if use_cache:
        cached = _read(path)
        if cached is not None:
            return cached
    result = replace(_run(job, progress), versions=versions)
    if use_cache:
        _write(path, result.to_dict())
    return result


def library_versions(job: TraceJob) -> dict[str, str]:
    """Return the versions of the libraries that a job runs on; raise BadInput naming those that are missing."""
    from importlib.metadata import PackageNotFoundError, version

    found, missing = {}, []
    adapters = ("peft",) if job.adapter is not None else ()
    packs = job.quantization is not None or job.optimizer in BITSANDBYTES
    packing = ("bitsandbytes",) if packs else ()
    heads = ("trl",) if job.loss == "chunked_linear" else ()
    for name in (*LIBRARIES, *adapters, *packing, *heads):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise BadInput.one(f"tracing needs {' and '.join(missing)}", fix=INSTALL)
    return found


def cache_path(job: TraceJob, versions: Mapping[str, str]) -> str:
    """Return the file that holds a job's result: named by the job, the libraries and our own tracing code."""
    import hashlib
    import json

    digest = hashlib.sha256(json.dumps([job.to_dict(), dict(versions)], sort_keys=True).encode())
    sources = sorted(name for name in os.listdir(PACKAGE) if name.endswith(".py"))
    for folder, names in ((PACKAGE, sources), (job.folder, _own_code(job.folder))):
        for name in names:
            assert folder is not None
            with open(os.path.join(folder, name), "rb") as file:
                digest.update(file.read())
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "preflight", "trace", f"{digest.hexdigest()[:32]}.json")


def _own_code(folder: str | None) -> list[str]:
    """Return the files of a model folder that decide what its code builds."""
    if folder is None:
        return []
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        found += [os.path.join(place, n) for n in names if n.endswith(".py") or n == "config.json"]
    return sorted(os.path.relpath(path, folder) for path in found)


def _read(path: str) -> TraceResult | None:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            return result_from_dict(json.load(file), is_cached=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or not what was written: trace again, and write it anew


def _write(path: str, values: Mapping[str, Any]) -> None:
    """Keep a result; a cache that cannot be written only costs the next trace its time.

    It appears whole or not at all, so that traces may run beside each other.
    """
    import json
    import tempfile
    from contextlib import suppress

    temporary = ""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(values, file)
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):  # a full disk may leave a part
            os.unlink(temporary)


def _run(job: TraceJob, progress: Callable[[str], None]) -> TraceResult:
    import json
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
    import json

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
    import sys

    if os.environ.get("PREFLIGHT_TRACE"):
        sys.stderr.write(stderr)
    last = next((line for line in reversed(stderr.splitlines()) if line.strip()), "")
    if code < 0 or not last:
        return TraceFailed(f"the tracing process ended with {code}: {last}")
    model_type = job.config.get("model_type", "this model")
    return BadInput.one(
        f"{model_type} cannot be traced: {last.strip()}",
        fix="PREFLIGHT_TRACE=1 prints where; the formulas of `preflight check` do not need a trace",
    )

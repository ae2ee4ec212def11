"""Traces that are kept: the file that holds a job's result, and finding one without tracing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.files import read_bytes, read_text
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.trace.job import TraceJob, folder_of, job_of
from preflight.trace.result import TraceResult, result_from_dict
from preflight.values import dataclass
from preflight.whole_file import write_whole

LIBRARIES = ("torch", "transformers")
PACKAGE = os.path.dirname(os.path.abspath(__file__))


@dataclass(frozen=True)
class Kept:
    """What is known of a plan's trace without running one."""

    result: TraceResult | None = None
    refusal: str = ""
    """Why `preflight trace` would refuse it; empty where it would not."""


def find_kept(plan: LaunchPlan, model: ModelSpec) -> Kept:
    """Return the trace of exactly this plan, on the libraries of this Python, where one was kept; trace nothing.

    A model's own code is in the question only where its config names some.
    """
    has_code = bool(model.config.get("auto_map"))
    folders = (None, folder_of(plan)) if has_code and plan.model else (None,)
    try:
        for folder in folders:
            for full_depth in (False, True):
                job = job_of(plan, model, folder, full_depth)
                result = read_kept(cache_path(job, library_versions(job)))
                if result is not None:
                    return Kept(result)
    except BadInput as error:
        told = [p.message + (f" ({p.fix})" if p.fix else "") for p in error.problems]
        return Kept(refusal="; ".join(told))
    return Kept()


def library_versions(job: TraceJob) -> dict[str, str]:
    """Return the versions of the libraries that a job runs on; raise BadInput naming those that are missing."""
    from importlib.metadata import PackageNotFoundError, version

    found, missing = {}, []
    adapters = ("peft",) if job.adapter is not None else ()
    packing = ("bitsandbytes",) if job.uses_bitsandbytes else ()
    heads = ("trl",) if job.loss == "chunked_linear" else ()
    for name in (*LIBRARIES, *adapters, *packing, *heads):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        raise BadInput.one(
            f"tracing needs {' and '.join(missing)}",
            fix=f"pip install {' '.join(missing)}, in the environment of preflight",
        )
    return found


def cache_path(job: TraceJob, versions: Mapping[str, str]) -> str:
    """Return the file that holds a job's result: named by the job, the libraries and our own tracing code."""
    import hashlib

    digest = hashlib.sha256(json.dumps([job.to_dict(), dict(versions)], sort_keys=True).encode())
    sources = sorted(name for name in os.listdir(PACKAGE) if name.endswith(".py"))
    for folder, names in ((PACKAGE, sources), (job.folder, _own_code(job.folder))):
        for name in names:
            assert folder is not None
            digest.update(read_bytes(os.path.join(folder, name)))
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


def read_kept(path: str) -> TraceResult | None:
    """Return the result in a file; None where there is none, or none of today's format."""
    try:
        return result_from_dict(json.loads(read_text(path)), is_cached=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # not there, or not what was written: trace again, and write it anew


def keep(path: str, values: Mapping[str, Any]) -> None:
    """Keep a result; a cache that cannot be written only costs the next trace its time.

    It appears whole or not at all, so that traces may run beside each other.
    """
    from contextlib import suppress

    with suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_whole(path, json.dumps(values), mode=0o600)

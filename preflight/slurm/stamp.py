"""The stamp that says in `--extra` that a job was checked, and of which script and which options.

    preflight=1,fits,3f2a9b01,0c5e1d77

The controller's guard (templates/slurm/job_submit.lua) computes the two checksums again. They tell a stale
stamp from a fresh one; anybody can forge one. This is policy, not security.
"""

from __future__ import annotations

import zlib

from preflight.lazy_pattern import lazy_pattern
from preflight.slurm.options import GpuCount, SubmitOptions, gpus_of_gres

VERSION = 1
MOST_BYTES = 32768
"""Of a script that a checksum covers: of a longer one the first and the last half of this, and the length."""

_STAMP = lazy_pattern(r"\s*\bpreflight=[^\s]*")


def stamp_of(script: str | bytes, options: SubmitOptions, verdict: str) -> str:
    """Return the stamp of a checked job: `verdict` is one word of letters, such as fits or unknown."""
    assert verdict.replace("_", "").isalpha(), verdict
    words = (
        str(VERSION),
        verdict,
        script_checksum(script),
        _checksum(options_text(options).encode()),
    )
    return "preflight=" + ",".join(words)


def with_stamp(extra: str | None, stamp: str) -> str:
    """Return the text of `--extra` with a stamp behind what a user wrote there, and no older stamp."""
    kept = _STAMP.sub("", extra or "").strip()
    return f"{kept} {stamp}" if kept else stamp


def wrapped_script(command: str) -> str:
    """Return the script that `sbatch --wrap` makes of a command (src/sbatch/opt.c, Slurm 24.11)."""
    return f"#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{command}\n"


def script_checksum(script: str | bytes) -> str:
    """Return the checksum of a script as the controller gets it."""
    data = script.encode("utf-8", "surrogateescape") if isinstance(script, str) else script
    if len(data) > MOST_BYTES:
        half = MOST_BYTES // 2
        data = data[:half] + data[-half:] + str(len(data)).encode()
    return _checksum(data)


def options_text(options: SubmitOptions) -> str:
    """Return what of the options decides which GPUs a job gets, in one spelling for client and controller."""
    per_node = {*options.gpus_per_node}
    if options.gres:
        per_node |= set(gpus_of_gres(options.gres))
    gpus = [
        *_words("job", {*options.gpus}),
        *_words("node", per_node),
        *_words("socket", {*options.gpus_per_socket}),
        *_words("task", {*options.gpus_per_task}),
    ]
    return "|".join((",".join(options.partitions), options.constraint or "", " ".join(gpus)))


def _words(kind: str, gpus: set[GpuCount]) -> list[str]:
    return sorted(
        f"{kind}:{gpu.type}:{gpu.count}" if gpu.type else f"{kind}:{gpu.count}" for gpu in gpus
    )


def _checksum(data: bytes) -> str:
    return f"{zlib.adler32(data):08x}"

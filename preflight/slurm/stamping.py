"""The stamp of `preflight sbatch`, put among the words of a submission where a guard of the controller may look for it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping, Sequence

from preflight.slurm.commands import Running
from preflight.slurm.job_script import Submission, read_submission
from preflight.slurm.stamp import stamp_of, with_stamp

TIMEOUT_S = 5.0
FIRST_WITH_EXTRA = (23, 2)
"""The release that brought `--extra` (RELEASE_NOTES of Slurm 23.02)."""


def stamped(
    program: str, words: Sequence[str], text: str | None, verdict: str, env: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the words of sbatch with the stamp of what they submit; as they are where no guard would read it."""
    option = stamp_option(env) if program == "sbatch" else None
    if option is None:
        return tuple(words)
    try:
        submission = read_submission(program, words, env, os.getcwd(), text)
    except OSError:
        return tuple(words)  # Slurm says better what is wrong with the file
    data = submission.text.encode("utf-8", "surrogateescape")
    return with_option(words, submission, option, stamp_of(data, submission.options, verdict))


def marked(program: str, words: list[str], env: Mapping[str, str]) -> list[str]:
    """Return the words of a job that could not be judged with the mark that lets it pass, on record."""
    option = stamp_option(env) if program == "sbatch" else None
    # In front: what the user gives there beats it.
    return words if option is None else [f"--{option}=preflight=not-judged,failed", *words]


def with_option(
    words: Sequence[str], submission: Submission, option: str, stamp: str
) -> tuple[str, ...]:
    """Return words with a stamp behind what its option has already, in the component that has the script."""
    given = submission.options.extra if option == "extra" else submission.options.comment
    at = submission.first_rest if submission.kind == "file" else len(words)
    if ":" in words[:at]:
        at = list(words).index(":")
    return (*words[:at], f"--{option}={with_stamp(given, stamp)}", *words[at:])


def stamp_option(env: Mapping[str, str]) -> str | None:
    """Return the option that a stamp may stand in; None where no Lua is in the controller."""
    facts = cluster_facts(env)
    if "lua" not in re.split(r"[,/\s]+", facts.get("JobSubmitPlugins", "").lower()):
        return None
    return option_for(facts)


def cluster_facts(env: Mapping[str, str]) -> dict[str, str]:
    """Return what `scontrol show config` says; nothing where no controller answers."""
    text = Running(("scontrol", "show", "config"), env).answer(time.monotonic() + TIMEOUT_S)
    return dict(re.findall(r"^(\w+)\s*=\s*(.*)$", text, re.MULTILINE))


def option_for(facts: Mapping[str, str]) -> str:
    """Return extra, or comment where Slurm has no extra, or chooses nodes by what stands there."""
    version = tuple(int(n) for n in re.findall(r"\d+", facts.get("SLURM_VERSION", ""))[:2])
    is_old = bool(version) and version < FIRST_WITH_EXTRA
    is_taken = "extra_constraints" in facts.get("SchedulerParameters", "")
    return "comment" if is_old or is_taken else "extra"

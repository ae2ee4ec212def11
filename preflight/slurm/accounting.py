"""Jobs that Slurm's accounting knows: what each submitted, how it ended, and the GPU hours that it had.

    for found in jobs_since("now-7days", env):
        audited(found, inventory, None)

Asks `sacct`, which needs slurmdbd; scripts are there where slurm.conf says `AccountingStoreFlags=job_script`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import replace

from preflight.errors import BadInput, PreflightError
from preflight.lazy_pattern import lazy_pattern
from preflight.slurm.audit import Found, said_by
from preflight.slurm.job_script import read_submission
from preflight.slurm.option_words import split_words

FIELDS = (
    *("JobIDRaw", "JobName", "State", "ElapsedRaw", "AllocTRES", "ReqTRES", "Partition"),
    *("Constraints", "NNodes", "WorkDir", "SubmitLine"),
)
"""The last may have line ends in it."""
BETWEEN = "\x1f"
"""Between two fields: names and lines may have the `|` of sacct's own."""
_GPUS = lazy_pattern(r"gres/gpu(?::([^=,]+))?=(\d+)")


def jobs_since(since: str, env: Mapping[str, str]) -> list[Found]:
    """Return the jobs that ran since a time, in sacct's words, each with its script, state and GPU hours.

    Raises BadInput where sacct does not say; a job whose script was not kept has that as its problem.
    """
    asked = (
        *("sacct", "--allusers", "--allocations", "--noheader", "--parsable2"),
        *(f"--delimiter={BETWEEN}", f"--starttime={since}", f"--format={','.join(FIELDS)}"),
    )
    try:
        text = said_by(asked, env)
    except PreflightError as error:
        raise BadInput.one(
            str(error),
            f"--since {since}",
            "a time as sacct takes it: 2026-11-01, now-7days; without --since, the jobs that the controller knows",
        ) from error
    return [_found(record, env) for record in records_in(text)]


def records_in(text: str) -> list[dict[str, str]]:
    """Return what sacct says of each job by field; a line without the fields goes on with the line before it."""
    records: list[dict[str, str]] = []
    for line in text.split("\n"):
        values = line.split(BETWEEN, len(FIELDS) - 1)
        if len(values) == len(FIELDS):
            records.append(dict(zip(FIELDS, values, strict=True)))
        elif records and line:
            records[-1][FIELDS[-1]] += f"\n{line}"
    return records


def _found(record: Mapping[str, str], env: Mapping[str, str]) -> Found:
    number = record["JobIDRaw"]
    found = Found(
        f"job {number} ({record['JobName']})",
        env=env,
        state=record["State"].partition(" ")[0],  # CANCELLED by 1000
        gpu_hours=gpu_hours_of(record),
    )
    try:
        # Two lines stand above it: a title and a rule.
        script = "\n".join(said_by(("sacct", "-B", "-j", number), env).split("\n")[2:])
    except PreflightError as error:
        return replace(found, problem=f"its script cannot be read: {error}")
    if not script.startswith("#!"):
        told = (
            "Slurm kept no script of it (AccountingStoreFlags=job_script in slurm.conf keeps them)"
        )
        return replace(found, problem=told)
    try:
        submission = read_submission(
            "sbatch", words_of_record(record), {}, record["WorkDir"] or "/", script
        )
    except BadInput as error:
        return replace(found, problem=error.problems[0].message)
    name, *arguments = script_words(record["SubmitLine"]) or (record["JobName"],)
    submission = replace(submission, name=os.path.basename(name), arguments=tuple(arguments))
    return replace(found, submission=submission)


def gpu_hours_of(record: Mapping[str, str]) -> float | None:
    """Return the hours of all GPUs of a job together; None where the site does not account for GPUs."""
    counts = [int(number) for kind, number in _GPUS.findall(record["AllocTRES"]) if not kind]
    if not counts or not record["ElapsedRaw"].isdecimal():
        return None
    return counts[0] * int(record["ElapsedRaw"]) / 3600


def words_of_record(record: Mapping[str, str]) -> list[str]:
    """Return the options of sbatch that ask for what a job asked for, or was given where sacct does not say that."""
    words = [
        f"--{option}={record[field]}"
        for field, option in (
            ("Partition", "partition"),
            ("Constraints", "constraint"),
            ("NNodes", "nodes"),
        )
        if record[field] and record[field] != "0"
    ]
    gpus = _GPUS.findall(record["ReqTRES"]) or _GPUS.findall(record["AllocTRES"])
    typed = [f"{kind}:{number}" for kind, number in gpus if kind]
    if gpus:
        words.append(f"--gpus={','.join(typed) or gpus[0][1]}")
    return words


def script_words(line: str) -> tuple[str, ...]:
    """Return the script of a line of sbatch and what follows it; nothing where the line does not say it.

    sacct keeps the words without their quotes, so that the end of a `--wrap` cannot be told.
    """
    try:
        words = shlex.split(line)
        if any(word.startswith("--wrap") for word in words):
            return ()
        return tuple(split_words(words[1:], "sbatch").rest)
    except (ValueError, BadInput):
        return ()

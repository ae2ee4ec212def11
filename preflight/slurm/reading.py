"""What a job script launches, by its text; nothing of it is run.

    reading = read_job_script(submission, env, place)

An explicit `preflight` line in a script is found too: what stands behind its `--` is the launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.slurm.job_environment import JobPlace, job_environment
from preflight.slurm.job_script import Submission, interpreter_of
from preflight.slurm.scripted_launch import ScriptLaunch, ScriptReading, shown_origin

SHELLS = ("", "bash", "sh", "dash")


def read_job_script(
    submission: Submission, env: Mapping[str, str], place: JobPlace, task: int | None = None
) -> ScriptReading:
    """Return the launches of what is submitted, of one task where it is an array; a reading without any says why."""
    reading = _reading(submission, env, place, task)
    launches = tuple(
        replace(one, origin=_as_typed(one.origin, submission.kind)) for one in reading.launches
    )
    return replace(reading, launches=launches)


def _as_typed(origin: str, kind: str) -> str:
    """Return a place as the user knows it: a command has no lines, and sbatch puts three in front of `--wrap`."""
    name, _, line = origin.rpartition(":")
    if kind == "command":
        return name or origin
    if kind == "wrap" and line.isdecimal():
        return shown_origin(name, max(0, int(line) - 3)).removesuffix(":1")
    return origin


def _reading(
    submission: Submission, env: Mapping[str, str], place: JobPlace, task: int | None
) -> ScriptReading:
    if submission.kind == "nothing":
        return ScriptReading("nothing", reasons=("there is no script to read",))
    interpreter = interpreter_of(submission.text)
    variables = job_environment(
        submission.options, place, env, submission.cwd, submission.name.rpartition("/")[2], task
    )
    if interpreter.startswith("python"):
        # The job script is the training.
        argv = (interpreter, submission.name, *submission.arguments)
        launch = ScriptLaunch(argv, variables, submission.cwd, (), f"{submission.name}:1")
        return ScriptReading("static", (launch,))
    if interpreter not in SHELLS:
        return ScriptReading("nothing", reasons=(f"{interpreter} scripts are not read",))
    from preflight.slurm.script_reader import read_script

    return read_script(
        submission.text,
        submission.name,
        submission.arguments,
        variables,
        submission.cwd,
        place.nodes,
    )

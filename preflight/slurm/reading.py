"""What a job script launches: by running it dry, else by reading its text, else nobody can tell.

    reading = read_job_script(submission, env, place)

An explicit `preflight` line in a script is found by both: what stands behind its `--` is the launch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from preflight.slurm.job_environment import JobPlace, job_environment
from preflight.slurm.job_script import Submission, interpreter_of
from preflight.slurm.scripted_launch import ScriptLaunch, ScriptReading, shown_origin

SHELLS = ("", "bash", "sh", "dash")


def read_job_script(
    submission: Submission, env: Mapping[str, str], place: JobPlace, with_dry_run: bool = True
) -> ScriptReading:
    """Return the launches of what is submitted; a reading without any says why."""
    reading = _reading(submission, env, place, with_dry_run)
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
    submission: Submission, env: Mapping[str, str], place: JobPlace, with_dry_run: bool
) -> ScriptReading:
    if submission.kind == "nothing":
        return ScriptReading("nothing", reasons=("there is no script to read",))
    interpreter = interpreter_of(submission.text)
    variables = job_environment(
        submission.options, place, env, submission.cwd, submission.name.rpartition("/")[2]
    )
    if interpreter.startswith("python"):
        # The job script is the training.
        argv = (interpreter, submission.name, *submission.arguments)
        launch = ScriptLaunch(argv, variables, submission.cwd, (), f"{submission.name}:1")
        return ScriptReading("static", (launch,))
    if interpreter not in SHELLS:
        return ScriptReading("nothing", reasons=(f"{interpreter} scripts are not read",))
    dry = ScriptReading("nothing", reasons=("a dry run was not asked for",))
    if with_dry_run:
        # A guard of a whole site mostly does without: a tenth of its time is spared.
        from preflight.slurm.dry_run import dry_run
        from preflight.slurm.sandbox import CannotConfine

        try:
            dry = dry_run(
                submission.text,
                submission.name,
                submission.arguments,
                variables,
                submission.cwd,
                place.nodes,
                place.num_gpus,
            )
        except (CannotConfine, OSError) as error:
            dry = ScriptReading("nothing", reasons=(f"no dry run: {error}",))
        if dry.launches:
            return dry
    from preflight.slurm.static_reader import read_statically  # most jobs never need it

    read = read_statically(
        submission.text,
        submission.name,
        submission.arguments,
        variables,
        submission.cwd,
        place.nodes,
    )
    if read.launches:
        return replace(read, reasons=(*dry.reasons, *read.reasons))
    return replace(dry, reasons=tuple(dict.fromkeys((*dry.reasons, *read.reasons))))

"""What the guard would have said of jobs that were written or submitted without it.

    for submission in submissions_in("jobs/", env):
        audited(submission, env, inventory)

Job scripts are found by their `#SBATCH` lines; jobs that the controller still knows by `scontrol`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from preflight.device import DeviceSpec
from preflight.errors import BadInput, PreflightError
from preflight.files import open_regular
from preflight.slurm.guard import Answer, Asked, asked_of_nobody, judge_submission, said_of
from preflight.slurm.inventory import Inventory
from preflight.slurm.job_script import MOST_BYTES, Submission, read_submission
from preflight.values import dataclass

TIMEOUT_S = 30.0
VERDICTS = {
    "does_not_fit": "does not fit: would be refused",
    "may_fit": "depends on the node",
    "fits": "fits",
    "unknown": "cannot be told",
    "none": "launches nothing that is known",
    "no_gpus": "asks for no GPU",
}
"""Word of an audit -> what it means, the worst first."""
_NOT_LOOKED_INTO = (".git", ".venv", "node_modules", "__pycache__", ".preflight")


@dataclass(frozen=True)
class Audited:
    """One job with what the guard says of it."""

    name: str
    """`jobs/train.sh`, `job 4711 (train.sh)`."""
    verdict: str
    """A key of VERDICTS."""
    answer: Answer | None = None
    problem: str = ""
    """Why it could not be judged."""
    state: str = ""
    """Slurm's word for where the job is or how it ended; empty for a script that nobody submitted."""
    gpu_hours: float | None = None
    """Of all its GPUs together; None where nobody knows them."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        launches = self.answer.launches if self.answer is not None else ()
        return {
            "name": self.name,
            "verdict": self.verdict,
            "problem": self.problem,
            "state": self.state or None,
            "gpu_hours": self.gpu_hours,
            "read_by": self.answer.reading.how if self.answer is not None else None,
            "reasons": list(self.answer.reading.reasons) if self.answer is not None else [],
            "launches": [
                {
                    "origin": one.launch.origin,
                    "array_task": one.task,
                    "argv": list(one.launch.argv),
                    "fit": one.fit.value,
                    "problem": one.problem,
                    "nodes": [
                        {
                            "nodes": [n.name for n in group.nodes],
                            "gpus": group.words,
                            "fit": fit.value,
                        }
                        for group, fit in (one.judgement.judged.fits if one.judgement else ())
                    ],
                    "findings": [
                        {"id": f.id, "severity": f.severity, "message": f.message}
                        for f in (one.judgement.findings if one.judgement else ())
                    ],
                }
                for one in launches
            ],
        }


@dataclass(frozen=True)
class Found:
    """A job to audit."""

    name: str
    submission: Submission | None = None
    problem: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    state: str = ""
    gpu_hours: float | None = None


def scripts_in(path: str, env: Mapping[str, str]) -> list[Found]:
    """Return the job scripts of a folder and all below it, or one file; raise BadInput where there is neither."""
    if not os.path.exists(path):
        raise BadInput.one(f"there is no {path}", path, "a folder of job scripts, or one of them")
    paths = [path] if os.path.isfile(path) else sorted(_files_below(path))
    found = []
    for one in paths:
        if os.path.isdir(path) and not _is_job_script(one):
            continue
        folder = os.path.dirname(os.path.abspath(one))
        words = (os.path.basename(one),)
        try:
            found.append(Found(one, read_submission("sbatch", words, env, folder), env=env))
        except OSError as error:
            found.append(Found(one, problem=f"{error.strerror or error}"))
    return found


def _files_below(folder: str) -> Iterator[str]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _NOT_LOOKED_INTO)
        for name in names:
            path = os.path.join(parent, name)
            if os.path.isfile(path) and os.path.getsize(path) <= MOST_BYTES:
                yield path


def _is_job_script(path: str) -> bool:
    try:
        with open_regular(path) as file:
            head = file.read(16384)
    except OSError:
        return False
    return (
        head.startswith((b"#SBATCH", b"#!")) and b"\n#SBATCH" in b"\n" + head and b"\0" not in head
    )


def jobs_of_controller(env: Mapping[str, str]) -> list[Found]:
    """Return the batch jobs that the controller knows: waiting, running and lately ended ones.

    Raises BadInput where Slurm does not say; a job whose script is not for us has that as its problem.
    """
    try:
        text = said_by(("scontrol", "show", "job", "--json"), env)
    except PreflightError as error:
        raise BadInput.one(
            str(error), fix="a folder of job scripts is audited without Slurm"
        ) from error
    try:
        jobs = json.loads(text)["jobs"]
        if not isinstance(jobs, list):
            raise TypeError(type(jobs))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput.one("scontrol show job --json does not answer in JSON with jobs") from error
    return [_job(job, env) for job in jobs if isinstance(job, dict) and job.get("batch_flag", True)]


def _job(job: Mapping[str, Any], env: Mapping[str, str]) -> Found:
    number = str(job.get("job_id", ""))
    name = f"job {number} ({job.get('name', '')})"
    state = job.get("job_state")
    state = str(state[0] if isinstance(state, list) and state else state or "")
    try:
        text = said_by(("scontrol", "write", "batch_script", number, "-"), env)
    except PreflightError as error:
        return Found(name, problem=f"its script cannot be read: {error}", state=state)
    # Slurm keeps the words without their quotes: an argument with blanks is several here.
    command = str(job.get("command") or "").split()
    folder = str(job.get("current_working_directory") or "/")
    try:
        submission = read_submission("sbatch", words_of_job(job), {}, folder, text)
    except BadInput as error:
        return Found(name, problem=error.problems[0].message, state=state)
    name_of_script = os.path.basename(command[0]) if command else "the script"
    submission = replace(submission, name=name_of_script, arguments=tuple(command[1:]))
    return Found(name, submission, env=env, state=state)


def words_of_job(job: Mapping[str, Any]) -> list[str]:
    """Return the options of sbatch that ask for what a job's record says it asked for."""

    def number(key: str) -> int:
        value = job.get(key)
        if isinstance(value, dict):
            value = value.get("number") if value.get("set") else 0
        try:
            return int(value or 0)
        except (ValueError, TypeError, OverflowError):  # no number of Slurm's
            return 0

    words = [
        f"--{option}={job[key]}"
        for key, option in (
            ("partition", "partition"),
            ("features", "constraint"),
            ("required_nodes", "nodelist"),
            ("excluded_nodes", "exclude"),
            ("array_task_string", "array"),
            ("name", "job-name"),
        )
        if job.get(key)
    ]
    least, most = number("node_count"), number("max_nodes")
    if least:
        words.append(f"--nodes={least}-{most}" if most > least else f"--nodes={least}")
    for key, option, unit in (
        ("tasks", "ntasks", ""),
        ("tasks_per_node", "ntasks-per-node", ""),
        ("cpus_per_task", "cpus-per-task", ""),
        ("memory_per_node", "mem", "M"),
        ("memory_per_cpu", "mem-per-cpu", "M"),
    ):
        if number(key):
            words.append(f"--{option}={number(key)}{unit}")
    for key, option in (
        ("tres_per_job", "gpus"),
        ("tres_per_node", "gpus-per-node"),
        ("tres_per_socket", "gpus-per-socket"),
        ("tres_per_task", "gpus-per-task"),
    ):
        listed = str(job.get(key) or "").replace("=", ":").split(",")
        gpus = [item.removeprefix("gres/")[4:] or "1" for item in listed if _is_gpu(item)]
        if gpus:
            words.append(f"--{option}={','.join(gpus)}")
    shared = job.get("shared")
    if isinstance(shared, (list, str)) and "none" in shared:
        words.append("--exclusive")
    return words


def _is_gpu(item: str) -> bool:
    return item.removeprefix("gres/").partition(":")[0] == "gpu"


def said_by(words: tuple[str, ...], env: Mapping[str, str]) -> str:
    """Return what a program of Slurm's prints; raise PreflightError with its last line where it fails."""
    try:
        done = subprocess.run(
            words,
            env=dict(env),
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreflightError(f"{words[0]}: {error}") from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().split("\n")[-1]
        raise PreflightError(f"{' '.join(words[:3])}: {said}")
    return done.stdout


def audited(found: Found, inventory: Inventory | None, device: DeviceSpec | None) -> Audited:
    """Judge one job as the guard would; whatever goes wrong is its problem, and no exception.

    With a device, its nodes are taken to have GPUs of that kind, and no cluster is asked.
    """
    verdict, answer, problem = _judged(found, inventory, device)
    return Audited(found.name, verdict, answer, problem, found.state, found.gpu_hours)


def _judged(
    found: Found, inventory: Inventory | None, device: DeviceSpec | None
) -> tuple[str, Answer | None, str]:
    """Return the verdict on a job, the guard's answer, and why there is none."""
    submission = found.submission
    if submission is None:
        return "unknown", None, found.problem
    if not any(part.wants_gpus for part in submission.options.components):
        return "no_gpus", None, ""
    try:
        asked: Asked = replace(asked_of_nobody(), inventory=inventory, device=device)
        answer = judge_submission(submission, found.env, asked)
    except PreflightError as error:
        return "unknown", None, said_of(error)
    except Exception as error:  # a bug of ours
        return "unknown", None, f"{type(error).__name__}: {error}"
    return answer.verdict, answer, answer.problem

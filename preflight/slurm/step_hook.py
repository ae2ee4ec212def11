"""Two variables that check every launch of a job before its first rank starts, without a word in front of srun.

`SLURM_PROLOG` names a program that srun runs on its own node when a step's nodes are there: it judges the step's
command on the GPUs that the job really got. A prolog cannot stop a step (Slurm 24.11: its exit code is ignored),
so a refusal leaves a flag, and `SLURM_TASK_PROLOG`, which runs before each task on its node, ends the task where the
flag is. Both are small shell scripts in a folder that all nodes of the job see.
"""

from __future__ import annotations

import os
import shlex
import sys

from preflight.errors import BadInput
from preflight.trust import VARIABLE, NotTrusted, make_folder
from preflight.whole_file import write_whole

FOLDER = os.path.join(".preflight", "slurm")
TIMEOUT_S = 60
"""For the check of one step, the question to all nodes among it; a step that is not judged by then starts."""

PROLOG = """\
#!/bin/sh
# preflight: judges a step on the GPUs of its job; written by `preflight slurm hook`.
{before}case "$(echo $PREFLIGHT)" in [Oo][Ff][Ff] | 0 | [Nn] | [Nn][Oo] | [Ff] | [Ff][Aa][Ll][Ss][Ee]) exit 0 ;; esac
unset SLURM_PROLOG SLURM_TASK_PROLOG
timeout -k 1 {timeout} {python} -I -m preflight.slurm.step_check {folder} "$@" </dev/null
exit 0
"""
TASK_PROLOG = """\
#!/bin/sh
# preflight: ends a task whose step was refused; written by `preflight slurm hook`.
[ -e {folder}/refused."$SLURM_JOB_ID"."$SLURM_STEP_ID" ] && exit 1
{after}exit 0
"""


def write_hook(folder: str, prolog: str, task_prolog: str) -> dict[str, str]:
    """Write both scripts into a folder; return the variables that switch them on.

    `prolog` and `task_prolog` are programs that srun would have run without us; ours run them too.
    """
    try:
        make_folder(folder)
    except NotTrusted as distrust:
        raise BadInput.one(
            f"{folder} is no place for scripts that srun runs: {distrust.reason}",
            folder,
            f"give another with --dir, or trust it: {VARIABLE}={distrust.folder}",
        ) from distrust
    before, after = _words(prolog), _words(task_prolog)
    values = {
        "before": f'{before} "$@"\n' if before else "",
        "after": f"exec {after}\n" if after else "",
        "timeout": str(TIMEOUT_S),
        "python": shlex.quote(sys.executable),
        "folder": shlex.quote(folder),
    }
    found = {}
    for variable, name, text, given in (
        ("SLURM_PROLOG", "prolog", PROLOG, prolog),
        ("SLURM_TASK_PROLOG", "task-prolog", TASK_PROLOG, task_prolog),
    ):
        path = os.path.join(folder, name)
        found[variable] = path
        if given == path and os.path.exists(path):
            continue  # switched on already, and it knows what it replaced
        write_whole(path, text.format(**values), mode=0o755)
    return found


def _words(path: str) -> str:
    """Return a program for a shell; nothing where Slurm's words say that there is none."""
    return "" if path in ("", "none", "(null)") else shlex.quote(path)


def flag_path(folder: str, job_id: str, step_id: str) -> str:
    """Return the file that says that a step was refused."""
    return os.path.join(folder, f"refused.{job_id}.{step_id}")

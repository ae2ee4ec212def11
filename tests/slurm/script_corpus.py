"""The job scripts of `scripts/`: how each is submitted, what preflight reads in it, and what a real srun starts."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster

from preflight.slurm.inventory import Inventory
from preflight.slurm.job_environment import place_of
from preflight.slurm.job_script import Submission, read_submission
from preflight.slurm.nodes import candidates
from preflight.slurm.reading import read_job_script
from preflight.slurm.scripted_launch import LAUNCHERS, ScriptReading, is_launch

SCRIPTS = Path(__file__).parent / "scripts"
BESIDE = ("accelerate.sh", "launch.sh", "paths.sh")
"""Files that scripts start or source; no job scripts themselves."""
NAMES = sorted(path.name for path in SCRIPTS.glob("*.sh") if path.name not in BESIDE)
ONE_NODE = ("h100-01", "h100-02", "a100-01", "a100-02")
TWO_NODES = ("h100-01,h100-02", "a100-01,a100-02")

RECORDERS = (*LAUNCHERS, "python", "python3")
RECORDER = f"""#!/bin/bash
case "${{0##*/}} $1" in "python -c" | "python3 -c") exec {sys.executable} "$@" ;; esac
printf '%s\\0' "${{0##*/}}" "$@" > "$CORPUS_RECORDS/$CORPUS_NAME.$SLURM_PROCID.$(date +%s%N).$$"
"""
BEHIND = "for word; do case ${word##*/} in accelerate | torchrun | python | bash) break ;; *) shift ;; esac; done\n"
SHIMS = {
    # srun of a cluster without pyxis does not know these; all else is the real one's.
    "srun": "args=()\nwhile (($#)); do case $1 in --container-*) shift 2 ;; --no-container-*) shift ;;"
    " *) break ;; esac; done\nfirst=()\nwhile (($#)); do case $1 in --container-*) shift 2 ;;"
    ' --no-container-*) shift ;; -*) first+=("$1"); shift ;; *) break ;; esac; done\n'
    'exec {srun} "${{first[@]}}" "$@"\n',
    # The nodes of this cluster are one host: what a node says of itself is what Slurm calls it.
    "hostname": 'case $1 in -i | -I | --ip-address) echo 10.0.0.1 ;; *) echo "$SLURMD_NODENAME" ;; esac\n',
    "getent": 'echo "10.0.0.1 STREAM $3"\n',
    "nvidia-smi": "for ((i = 0; i < SLURM_GPUS_ON_NODE; i++)); do echo GPU $i; done\n",
    "preflight": 'while [[ $1 != -- ]]; do shift; done; shift; exec "$@"\n',
    "apptainer": BEHIND + 'exec "$@"\n',
    "singularity": BEHIND + 'exec "$@"\n',
    "nsys": BEHIND + 'exec "$@"\n',
    "numactl": BEHIND + 'exec "$@"\n',
    "conda": "[[ $1 == run ]] || exit 0\n" + BEHIND + 'exec "$@"\n',
    "uv": BEHIND + 'exec "$@"\n',
    **dict.fromkeys(("module", "dcgmi", "virtualenv", "pip", "clear"), "exit 0\n"),
}

Argv = tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """One script with the arguments that sbatch gets for it."""

    name: str
    words: tuple[str, ...]


def job_of(name: str, number: int) -> Job:
    """Return how a script is submitted: on named nodes, so that a reader and Slurm mean the same ones."""
    text = (SCRIPTS / name).read_text()
    arguments = re.search(r"^# args: (.*)$", text, re.M)
    more = tuple(arguments[1].split()) if arguments else ()
    if "hetjob" in text:
        return Job(name, ("-p", "h100", name, *more))
    nodes = re.search(r"(?:--nodes[= ]|-N ?)(\d+)", text)
    many = nodes is not None and nodes[1] == "2"
    where = TWO_NODES[number % 2] if many else ONE_NODE[number % 4]
    return Job(name, ("-p", where[:4], "-w", where, name, *more))


def environment(root: Path) -> dict[str, str]:
    """Return the environment that a user of the corpus submits in."""
    own = {
        key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))
    }
    return {**own, "CORPUS_SCRATCH": str(root / "scratch"), "TMPDIR": str(root / "tmp")}


def read(job: Job, folder: Path, env: Mapping[str, str], inventory: Inventory) -> ScriptReading:
    """Return what the text of a script says."""
    submission: Submission = read_submission("sbatch", job.words, env, str(folder))
    place = place_of(submission.options, candidates(submission.options, inventory))
    return read_job_script(submission, env, place)


def launched(reading: ScriptReading) -> list[Argv]:
    return sorted({masked(launch.argv) for launch in reading.launches})


def masked(argv: Argv) -> Argv:
    """Return an argv without what differs between two runs of one script: job number, random numbers."""
    words = [os.path.basename(argv[0]), *argv[1:]]
    for index, word in enumerate(words):
        word = re.sub(r"(?<!\d)(1000000|7\d{5})(?!\d)", "JOB", word)  # Slurm's: see cluster.py
        is_random = words[index - 1] == "--rdzv_id" and (word.isdecimal() or word == "$RANDOM")
        words[index] = "RANDOM" if is_random else word
    return tuple(words)


def run_all(
    jobs: list[Job], cluster: Cluster, folder: Path, env: Mapping[str, str]
) -> dict[str, list[Argv]]:
    """Submit every script to the cluster, and return what rank 0 of each of its launches was started with."""
    root = folder.parent
    bin_, records = root / "bin", root / "records"
    bin_.mkdir()
    records.mkdir()
    srun = shutil.which("srun", path=cluster.path)
    for name in RECORDERS:
        _program(bin_ / name, RECORDER)
    for name, text in SHIMS.items():
        _program(
            bin_ / name, "#!/bin/bash\n" + (text.format(srun=srun) if name == "srun" else text)
        )
    scratch = root / "scratch"
    (scratch / "model").mkdir(parents=True)
    (scratch / "venv" / "bin").mkdir(parents=True)
    for name in ("python", "accelerate", "torchrun"):
        _program(scratch / "venv" / "bin" / name, RECORDER)
    for job in jobs:
        own = {
            **{key: env[key] for key in ("CORPUS_SCRATCH", "TMPDIR")},
            "PATH": f"{bin_}:{cluster.path}",
            "CORPUS_RECORDS": str(records),
            "CORPUS_NAME": job.name,
        }
        done = cluster.run(
            "sbatch", "--parsable", "--output=/dev/null", *job.words, cwd=folder, env=own
        )
        assert done.returncode == 0, (job, done.stderr)
    deadline = time.monotonic() + 240
    while cluster.output("squeue", "-h") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not cluster.output("squeue", "-h")
    found: dict[str, list[Argv]] = {job.name: [] for job in jobs}
    for path in records.iterdir():
        name, _, rest = path.name.partition(".sh.")
        argv = tuple(path.read_bytes().decode().split("\0")[:-1])
        if rest.startswith("0.") and is_launch(argv):
            found[f"{name}.sh"].append(masked(argv))
    return {name: sorted(set(argvs)) for name, argvs in found.items()}


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)

"""`preflight slurm audit`: what the guard would have done about a folder of scripts, and about the controller's jobs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from json_schemas import SCHEMAS, declared, keys_of, problems
from test_sbatch import EXAMPLES, HUGE, LINE, MIDDLE, SMALL, TORCHRUN, script

from preflight.cli import main
from preflight.slurm.audit import words_of_job

PREFLIGHT = (sys.executable, "-m", "preflight")


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs"
    shutil.copytree(EXAMPLES, folder)
    h100 = "-p h100 --mem=900G"
    (folder / "fits.sh").write_text(script(SMALL, options=h100))
    (folder / "huge.slurm").write_text(script(HUGE, options=h100))
    flags = "--gradient_checkpointing false --per_device_train_batch_size 1"
    (folder / "some.sh").write_text(script(MIDDLE, flags, options="-p a100 --mem=900G"))
    (folder / "cpu.sh").write_text("#!/bin/bash\n#SBATCH -p cpu\npython prepare.py\n")
    (folder / "broken.sh").write_text("#!/bin/bash\n#SBATCH -p h100 --gres=gpu:8\nif true; then\n")
    (folder / "no_job.sh").write_text("#!/bin/bash\necho no job\n")
    return folder


def test_a_folder_is_audited_and_nothing_is_submitted_or_written(cluster, jobs):
    before = {path: path.read_bytes() for path in jobs.rglob("*") if path.is_file()}
    done = cluster.run(*PREFLIGHT, "slurm", "audit", ".", cwd=jobs)
    lines = done.stdout.rstrip().split("\n")

    assert done.returncode == 0, done.stderr
    assert lines[0].startswith("preflight: 5 jobs: 1 does not fit: would be refused, 1 depends")
    assert lines[-1].startswith("next: nothing was stopped")
    assert f"huge.slurm:{LINE}; not on h100-[01-02] (h100, 79.1 GiB)" in done.stdout
    assert "not read beyond" in done.stdout
    assert "no_job.sh" not in done.stdout
    assert cluster.output("squeue", "-h") == ""
    assert {path: path.read_bytes() for path in jobs.rglob("*") if path.is_file()} == before


def test_json_says_the_same(cluster, jobs):
    done = cluster.run(*PREFLIGHT, "slurm", "audit", "--format", "json", str(jobs), cwd=jobs)
    said = json.loads(done.stdout)
    verdicts = {Path(job["name"]).name: job["verdict"] for job in said["jobs"]}

    assert verdicts == {
        "fits.sh": "fits",
        "huge.slurm": "does_not_fit",
        "some.sh": "may_fit",
        "cpu.sh": "no_gpus",
        "broken.sh": "unknown",
    }
    assert said["summary"]["num_jobs"] == 5 and said["summary"]["does_not_fit"] == 1
    assert {job["read_by"] for job in said["jobs"] if job["verdict"] == "fits"} == {"static"}
    assert problems("slurm-audit.json", said) == []
    assert set(declared(SCHEMAS["slurm-audit.json"])) <= set(keys_of(said))
    assert problems("slurm-audit.json", {**said, "surprise": 1})


def test_texts_alone_give_the_same_answers(cluster, jobs):
    words = ("slurm", "audit", "--format", "json", str(jobs))
    said = json.loads(cluster.run(*PREFLIGHT, *words, cwd=jobs).stdout)
    verdicts = {Path(job["name"]).name: job["verdict"] for job in said["jobs"]}

    assert [verdicts[name] for name in ("fits.sh", "huge.slurm", "some.sh")] == [
        *("fits", "does_not_fit", "may_fit")
    ]


def test_jobs_that_the_controller_knows_are_audited(cluster, jobs):
    cluster.run("sbatch", "-H", "huge.slurm", cwd=jobs)
    cluster.run("sbatch", "-H", "fits.sh", cwd=jobs)
    words = ("-H", "-p", "h100", "--gres=gpu:8", "--mem=900G", "--job-name=wrapped")
    cluster.run("sbatch", *words, "--wrap", TORCHRUN + HUGE, cwd=jobs)
    words = ("slurm", "audit", "--format", "json")
    # Jobs of other tests are known to the controller too.
    done = cluster.run(*PREFLIGHT, *words, cwd=jobs, timeout_s=500)
    said = json.loads(done.stdout)
    held = {
        job["name"].partition("(")[2].rstrip(")"): job["verdict"]
        for job in said["jobs"]
        if job["launches"]
    }

    assert problems("slurm-audit.json", said) == []
    assert held["huge.slurm"] == "does_not_fit"
    assert held["fits.sh"] == "fits"
    assert held["wrapped"] == "does_not_fit"


def test_the_record_of_a_job_says_what_was_asked_for(cluster, jobs):
    asked = [
        *("--partition=h100", "--nodes=1-2", "--ntasks-per-node=2", "--gpus-per-node=h100:4"),
        *("--constraint=nvlink", "--exclude=h100-02", "--mem=921600M", "--job-name=x"),
    ]
    others = ["--partition=a100", "--gpus=4", "--exclusive"]
    ids = [
        cluster.run("sbatch", "-H", "--parsable", *words, "--wrap", "true", cwd=jobs).stdout.strip()
        for words in (asked, others)
    ]
    records = json.loads(cluster.output("scontrol", "show", "job", "--json"))["jobs"]
    held = {str(job["job_id"]): words_of_job(job) for job in records}

    assert set(asked) <= set(held[ids[0]])
    assert set(others) <= set(held[ids[1]])


def test_a_folder_that_is_not_there_is_bad_input(cluster, tmp_path):
    done = cluster.run(*PREFLIGHT, "slurm", "audit", "missing", cwd=tmp_path)

    assert done.returncode == 2
    assert "there is no missing" in done.stderr


JOB = {"job_id": 7, "name": "a", "batch_flag": True, "tres_per_node": "gres/gpu:8"}
ANSWERS = {
    "no answer": (1, ""),
    "no JSON": (0, "slurm_load_jobs error"),
    "no jobs": (0, "{}"),
    "jobs of another kind": (0, '{"jobs": 5}'),
    "odd jobs": (0, json.dumps({"jobs": [3, None, "x", [], {}, JOB]})),
    "odd numbers": (0, '{"jobs": [{"job_id": 7, "node_count": Infinity, "memory_per_node": NaN, "tasks": "x"}]}'),
    "odd words": (0, json.dumps({"jobs": [{**JOB, "shared": 5, "command": {}, "partition": ["\x1b"]}]})),
}  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS)
def test_whatever_slurm_says_of_its_jobs_the_audit_ends_with_a_word(
    answer, tmp_path, capfd, monkeypatch
):
    code, text = ANSWERS[answer]
    (tmp_path / "text").write_text(text)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in (
        ("scontrol", f'case "$*" in *job*) cat {tmp_path}/text; exit {code};; *) exit 1;; esac'),
        ("sinfo", "echo 'n1|gpu*|gpu:h100:8|(null)|idle|1000000|64'"),
    ):
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    ended = main(["slurm", "audit"])
    told = capfd.readouterr()

    assert ended in (0, 2), told.err
    assert "bug" not in told.err and "\x1b" not in told.out + told.err
    assert ended == 0 or "scontrol show job" in told.err

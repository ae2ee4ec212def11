"""`preflight slurm audit --since`: the jobs of Slurm's accounting, how each ended, and its GPU hours."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounted_cluster import PACKAGES, AccountedCluster, missing_programs
from cluster import started
from json_schemas import problems
from test_sbatch import EXAMPLES, HUGE, LINE, SMALL, script

from preflight.cli import main
from preflight.slurm.accounting import (
    BETWEEN,
    FIELDS,
    gpu_hours_of,
    records_in,
    script_words,
    words_of_record,
)

PREFLIGHT = (sys.executable, "-m", "preflight")
NO_LAUNCHERS = {"PATH": os.defpath}
"""What a job sees where no environment is active."""


@pytest.fixture(scope="module")
def accounted() -> Iterator[AccountedCluster]:
    """A cluster with slurmdbd and its database."""
    if missing := missing_programs():
        lacks = ", ".join(missing)
        pytest.skip(
            f"not run! ACCOUNTS WERE NOT TESTED: {lacks} missing: apt-get install {PACKAGES}"
        )
    with started(AccountedCluster) as running:
        yield running


def test_jobs_of_the_accounts_are_judged_beside_how_they_ended(accounted, tmp_path):
    jobs = tmp_path / "jobs"
    shutil.copytree(EXAMPLES, jobs)
    h100 = "-p h100 --mem=900G --gres=gpu:h100:8"
    for name, flags in (("huge.sh", HUGE), ("small.sh", SMALL)):
        # What is launched is not here: a job ends as its programs do, and these are not found.
        (jobs / name).write_text(script(flags, options=h100))
    ids = {
        name: accounted.run("sbatch", "--parsable", name, cwd=jobs, env=NO_LAUNCHERS).stdout.strip()
        for name in ("huge.sh", "small.sh")
    }
    for number in ids.values():
        accounted.finished(number)
    asked = ("slurm", "audit", "--since", "now-1hours", "--format", "json")

    def said() -> dict:
        done = accounted.run(*PREFLIGHT, *asked, cwd=jobs)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def are_recorded() -> bool:
        ended = accounted.output(
            "sacct", "-n", "-X", "-P", "-o", "State", "-j", ",".join(ids.values())
        )
        return ended.split() == ["FAILED", "FAILED"]

    accounted.wait(are_recorded, "the accounts do not say how the jobs ended")
    answer = said()
    found = {job["name"]: job for job in answer["jobs"]}
    huge, small = (
        found[f"job {ids['huge.sh']} (huge.sh)"],
        found[f"job {ids['small.sh']} (small.sh)"],
    )

    assert problems("slurm-audit.json", answer) == []
    assert (huge["verdict"], huge["state"]) == ("does_not_fit", "FAILED")
    assert (small["verdict"], small["state"]) == ("fits", "FAILED")
    assert huge["launches"][0]["origin"] == f"huge.sh:{LINE}"
    assert all(isinstance(job["gpu_hours"], float) for job in (huge, small))


def line_of(**values: str) -> str:
    known = {
        "JobIDRaw": "7", "JobName": "a|b", "State": "CANCELLED by 1000", "ElapsedRaw": "5400",
        "AllocTRES": "billing=8,cpu=64,gres/gpu:h100=8,gres/gpu=8,node=1", "ReqTRES": "cpu=8,gres/gpu:h100=8,gres/gpu=8",
        "Partition": "gpu", "Constraints": "", "NNodes": "1", "WorkDir": "/home/u", "SubmitLine": "sbatch job.sh 4096",
    }  # fmt: skip
    return BETWEEN.join({**known, **values}[name] for name in FIELDS)


def test_a_record_says_what_was_asked_for_and_what_it_took():
    (record,) = records_in(line_of() + "\n")

    assert words_of_record(record) == ["--partition=gpu", "--nodes=1", "--gpus=h100:8"]
    assert gpu_hours_of(record) == 12.0
    assert gpu_hours_of({**record, "AllocTRES": "cpu=64"}) is None
    assert script_words(record["SubmitLine"]) == ("job.sh", "4096")
    assert script_words("sbatch -p gpu --wrap python a.py 3") == ()


def test_a_line_may_go_on_in_the_next_one():
    first, second = records_in(f"{line_of(SubmitLine='sbatch --wrap a')}\nb c\n{line_of()}\n")

    assert first["SubmitLine"] == "sbatch --wrap a\nb c"
    assert second["JobName"] == "a|b"


def fake_sacct(folder: Path, records: str, scripts: str) -> str:
    (folder / "records").write_text(records)
    (folder / "script").write_text(scripts)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "sacct").write_text(
        f'#!/bin/sh\ncase "$*" in *-B*) cat {folder}/script;; *) cat {folder}/records;; esac\n'
    )
    (programs / "sacct").chmod(0o755)
    return f"{programs}:/usr/bin:/bin"


def test_a_person_reads_states_and_gpu_hours_and_which_scripts_were_not_kept(
    tmp_path, monkeypatch, capsys
):
    shutil.copytree(EXAMPLES, tmp_path / "jobs")
    text = script(HUGE, options="-p h100 --mem=900G")
    path = fake_sacct(
        tmp_path,
        line_of(JobName="huge", WorkDir=str(tmp_path / "jobs"), State="FAILED") + "\n",
        f"Batch Script for 7\n----\n{text}",
    )
    monkeypatch.setenv("PATH", path)
    asked = ["slurm", "audit", "--since", "now-7days", "--device", "h100-sxm-80"]

    assert main(asked) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[0] == "preflight: 1 job: 1 does not fit: would be refused"
    assert lines[1] == "  does not fit: 12.0 GPU hours (1 FAILED)"
    assert "job 7 (huge)" in lines[2] and "12.0 GPU hours" in lines[2]

    (tmp_path / "script").write_text("Batch Script for 7\n----\nNONE\n")
    assert main(asked) == 0
    assert "AccountingStoreFlags=job_script" in " ".join(capsys.readouterr().out.split())


def test_a_slurm_without_accounts_is_bad_input_with_the_way_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))

    assert main(["slurm", "audit", "--since", "now-7days"]) == 2
    told = capsys.readouterr().err
    assert "sacct" in told and "without --since" in told

    assert main(["slurm", "audit", "--since", "now-7days", "."]) == 2

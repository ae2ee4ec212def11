"""Jobs of others on a real Slurm: an audit and a site's guard run none of their code and obey none of their settings."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from guarded_site import LAUNCH, SCRIPT, TRAIN, TRAINER
from two_users import ATTACKER, ROOT

from preflight.slurm.guard import asked_by_site, asked_in, asked_of_nobody

SETTINGS = 'hooks = [".x.py"]\n[policy]\nrefuse = ["tight"]\nignore = ["PF104"]\n[plan]\nmodel = "nobody/obeyed"\n'
FROM_STDIN = SCRIPT.format(launch=LAUNCH, train=TRAIN)


def hostile(machine, owner: int, name: str) -> Path:
    """Return a folder of a job with settings, hooks of both kinds and a script, all of one owner."""
    folder = machine.folder(owner, name)
    machine.write(owner, folder / "preflight.toml", SETTINGS)
    machine.write(owner, folder / ".x.py", machine.hostile_code)
    machine.write(owner, folder / "preflight_hooks.py", machine.hostile_code)
    machine.write(owner, folder / "train.py", TRAINER)
    machine.write(owner, folder / "theirs.sh", FROM_STDIN)
    return folder


@pytest.mark.parametrize("owner", [ATTACKER, ROOT])
def test_an_audit_as_root_imports_no_code_of_the_jobs_that_it_audits(cluster, machine, owner):
    """Attack A1, once through the controller's jobs and once through the folder; the auditor's own code neither."""
    folder = hostile(machine, owner, "job")
    elsewhere = machine.folder(ROOT, "elsewhere")
    words = ("--parsable", "-H", "-p", "h100", f"--chdir={folder}", "theirs.sh")
    submitted = cluster.run("sbatch", *words, cwd=folder)
    assert submitted.returncode == 0
    job_id = submitted.stdout.strip()

    for given, cwd in (((), elsewhere), ((str(folder),), elsewhere), ((".",), folder)):
        audit = (sys.executable, "-m", "preflight", "slurm", "audit", "--format", "json", *given)
        done = cluster.run(*audit, cwd=cwd, timeout_s=500)
        assert done.returncode == 0, done.stderr
        # The cluster may hold jobs of other tests beside this one, whose folders are gone.
        named = [job for job in json.loads(done.stdout)["jobs"] if "theirs.sh" in job["name"]]
        jobs = [
            each for each in named if job_id in each["name"] or not each["name"].startswith("job ")
        ]
        assert jobs and all(job["verdict"] in ("fits", "may_fit") for job in jobs), jobs
        assert "nobody/obeyed" not in done.stdout
        assert machine.ran_as == []


def test_the_sites_guard_in_a_strangers_folder_runs_and_obeys_nothing_of_it(site, machine):
    folder = hostile(machine, ATTACKER, "theirs")
    words = ("--parsable", "-p", "h100", "theirs.sh")
    done = site.cluster.run("sbatch", *words, cwd=folder, env={"SLURM_CONF": str(site.conf)})

    assert machine.ran_as == []
    assert site.job(done)["Extra"].startswith("preflight=1,fits,")
    assert f"{folder}/preflight.toml is left alone" in done.stderr


def test_the_sites_guard_takes_settings_of_the_one_who_submits_and_no_code(site, machine):
    folder = hostile(machine, ROOT, "own")
    machine.write(ROOT, folder / "preflight.toml", SETTINGS.replace("nobody/obeyed", "gpt2"))
    asked = asked_by_site(str(folder))

    assert asked.repository.plan["model"] == "gpt2" and asked.left_alone == ()
    done = site.cluster.run(
        *("sbatch", "--parsable", "-p", "h100", "theirs.sh"),
        cwd=folder,
        env={"SLURM_CONF": str(site.conf)},
    )
    assert site.job(done)["Extra"].startswith("preflight=1,fits,")
    assert machine.ran_as == []


def test_who_submits_from_an_own_folder_has_own_hooks_and_of_others_none(machine):
    own, theirs = hostile(machine, ROOT, "own"), hostile(machine, ATTACKER, "theirs")

    asked_of_nobody()
    left = asked_in(str(theirs)).left_alone
    assert machine.ran_as == [] and len(left) == 2
    shutil.rmtree(theirs)
    assert asked_in(str(own)).left_alone == ()
    assert machine.ran_as == ["ran-as-0"]

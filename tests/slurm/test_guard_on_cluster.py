"""The site guard on a real Slurm: what it refuses, what it says, and that no fault of ours stops a job."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from guarded_site import LAUNCH, TRAIN


def test_what_fits_no_gpu_that_the_job_may_get_is_refused_with_what_to_do(site):
    refused = site.sbatch("-p", "a100", "-C", "gpu_mem:40gb", "job.sh")
    on_v100 = site.sbatch("-p", "gpu", "--gpus-per-node=v100:2", "job.sh")

    assert refused.returncode != 0 and refused.stdout == ""
    assert "preflight: does not fit on any node that the job may get (job.sh:5)" in refused.stderr
    assert "a100-01 (a100, 39.4 GiB)  peak 68.9 of 39.4 GiB" in refused.stderr
    assert "PREFLIGHT=off sbatch job.sh" in refused.stderr
    assert "mix-01 (v100, 15.8 to 31.8 GiB)" in on_v100.stderr
    assert on_v100.returncode != 0


def test_what_fits_passes_without_a_word_and_with_a_stamp(site):
    done = site.sbatch("--parsable", "-p", "h100", "job.sh")
    record = site.job(done)

    assert re.fullmatch(r"\d+\n", done.stdout)
    assert done.stderr == ""
    assert re.fullmatch(r"preflight=1,fits,[0-9a-f]{8},[0-9a-f]{8}", record["Extra"])


def test_where_only_some_nodes_do_the_job_passes_with_the_option_that_leaves_them(site):
    done = site.sbatch("-p", "a100", "job.sh")
    again = site.sbatch("-p", "a100", "--constraint=gpu_mem:80gb", "job.sh")

    assert done.returncode == again.returncode == 0
    assert "may not fit: it depends on the node" in done.stderr
    assert "fix  --constraint=gpu_mem:80gb keeps it off a100-01" in done.stderr
    assert again.stderr == ""


def test_cards_of_unsaid_size_are_a_warning(site):
    done = site.sbatch("-p", "a100-all", "-w", "old-01", "job.sh")

    assert done.returncode == 0
    assert "may not fit: it depends on which card the nodes have" in done.stderr
    assert "39.4 to 79.1 GiB" in done.stderr


def test_every_way_in_is_judged(site):
    text = (site.work / "job.sh").read_text()
    (site.work / "from_file.sh").write_text(text)
    wrap = f"{LAUNCH} {TRAIN}"
    at_40 = ("-p", "a100", "-C", "gpu_mem:40gb")
    refused = {
        "wrap": site.sbatch("-H", *at_40, "-N1", "--gpus-per-node=2", "--mem=0", f"--wrap={wrap}"),
        "array": site.sbatch("--array=1-4", *at_40, "job.sh"),
        "test-only": site.sbatch("--test-only", *at_40, "job.sh"),
        "het": site.sbatch(*at_40, "-N1", "--gpus-per-node=2", ":", "-p", "cpu", "job.sh"),
        "environment": site.sbatch("job.sh", SBATCH_PARTITION="a100", SBATCH_CONSTRAINT="gpu_mem:40gb"),
        "file": site.cluster.run(
            "bash", "-c", "sbatch -p a100 -C gpu_mem:40gb < job.sh",
            cwd=site.work, env={"SLURM_CONF": str(site.conf)},
        ),
        "srun": site.cluster.run(
            "srun", *at_40, "-N1", "--gpus-per-node=2", *wrap.split(),
            cwd=site.work, env={"SLURM_CONF": str(site.conf)},
        ),
    }  # fmt: skip
    piped = site.sbatch(*at_40, stdin=text)

    assert [name for name, done in refused.items() if done.returncode == 0] == []
    assert all("preflight: does not fit" in done.stderr for done in refused.values())
    assert "came through a pipe" in piped.stderr
    assert site.job(piped)["Extra"] == "preflight=not-judged,stdin"


def test_off_passes_and_is_on_record(site):
    site.policy("require")
    done = site.sbatch("-p", "a100", "-C", "gpu_mem:40gb", "job.sh", PREFLIGHT="off")
    plain = site.sbatch("-p", "a100", "job.sh", guarded=False, PREFLIGHT="off")

    assert site.job(done)["Extra"] == "preflight=off"
    assert site.job(plain)["AdminComment"] == "preflight=off,by-user"
    log = (site.cluster.root / "log" / "slurmctld.log").read_text()
    assert log.count("preflight: preflight=off,by-user") >= 2


def test_warn_only_refuses_nothing(site):
    words = ("slurm", "install", "--client", str(site.folder), "--warn-only")
    assert site.preflight(*words).returncode == 0
    done = site.sbatch("-p", "a100", "-C", "gpu_mem:40gb", "job.sh")

    assert "does not fit on any node" in done.stderr
    assert site.job(done)["Extra"].startswith("preflight=1,does_not_fit,")


def test_a_step_of_a_job_that_was_judged_is_left_alone(site):
    """srun loads the client's guard on the compute nodes too, where its own file is all that it needs."""
    site.helper("/nonexistent/python -I")
    script = site.work / "steps.sh"
    out = site.work / "out"
    script.write_text(
        f"#!/bin/bash\nexport SLURM_CONF={site.conf}\nsrun -n1 echo accelerate launch\n"
    )
    asked = ("--parsable", "-p", "h100", "-N1", "--gpus=1", f"--output={out}")
    done = site.sbatch(*asked, "steps.sh", guarded=False)
    ended = site.cluster.finished(done.stdout.strip())

    assert ended["JobState"] == "COMPLETED"
    assert out.read_text() == "accelerate launch\n"


# The controller


def test_require_lets_a_checked_job_in_and_no_other(site):
    site.policy("require")
    checked = site.sbatch("-p", "h100", "job.sh")
    unchecked = site.sbatch("-p", "h100", "job.sh", guarded=False)
    stamp = site.job(checked)["Extra"]
    copied = site.sbatch("-p", "h100", f"--extra={stamp}", "job.sh", guarded=False)
    moved = site.sbatch("-p", "a100", f"--extra={stamp}", "job.sh", guarded=False)
    (site.work / "job.sh").write_text((site.work / "job.sh").read_text() + "echo done\n")
    edited = site.sbatch("-p", "h100", f"--extra={stamp}", "job.sh", guarded=False)

    assert site.job(checked)["AdminComment"] == stamp
    assert copied.returncode == 0
    for done, why in (
        (unchecked, "not checked"),
        (moved, "other options"),
        (edited, "another script"),
    ):
        assert done.returncode != 0
        assert "preflight: not accepted: it" in done.stderr and why in done.stderr
        assert f"preflight sbatch {site.work / 'job.sh'}" in done.stderr


def test_every_kind_of_submission_keeps_its_stamp_valid(site):
    """The controller computes from its own fields what the client computed from options: they must agree."""
    site.policy("require")
    wrap = f"--wrap={LAUNCH} {TRAIN}"
    done = {
        "types": site.sbatch("-p", "gpu", "--gpus-per-node=h100:2", "job.sh"),
        "wrap": site.sbatch("-H", "-p", "h100", "-N1", "--gpus=h100:2", "--mem=0", wrap),
        "per task": site.sbatch("-H", "-p", "h100", "-n2", "--gpus-per-task=1", wrap),
        "tres": site.sbatch("-H", "-p", "h100", "-n2", "--tres-per-task=gres/gpu:h100:1", wrap),
        "exclusive": site.sbatch("-H", "-p", "h100,a100", "--exclusive", wrap),
        "array": site.sbatch("--array=1-3", "-p", "h100", "-C", "hopper&nvlink", "job.sh"),
        "own extra": site.sbatch("-p", "h100", "--extra=mine", "job.sh"),
        "long": site.sbatch("-p", "h100", _long(site.work)),
        "het": site.sbatch("-p", "h100", "-N1", "--gpus-per-node=2", ":", "-p", "cpu", "job.sh"),
        "file": site.cluster.run(
            "bash", "-c", "sbatch -p h100 < job.sh",
            cwd=site.work, env={"SLURM_CONF": str(site.conf)},
        ),
        "cpu": site.sbatch("-H", "-p", "cpu", "--wrap=echo accelerate launch", guarded=False),
        "no launch": site.sbatch("-H", "-p", "h100", "--gpus=1", "--wrap=nvidia-smi", guarded=False),
        "test-only": site.sbatch("--test-only", "-p", "h100", "job.sh"),
        "salloc": site.cluster.run("salloc", "-p", "h100", "--gpus=1", "true"),
    }  # fmt: skip

    assert {name: one.stderr for name, one in done.items() if one.returncode != 0} == {}


@pytest.mark.parametrize("how", ["file", "wrap", "stdin", "het", "own extra"])
def test_preflight_sbatch_leaves_a_stamp_that_the_controller_takes(site, how):
    site.policy("require")
    words: tuple[str, ...] = ("--parsable", "-p", "h100", "job.sh")
    stdin = None
    if how == "wrap":
        words = (
            "--parsable",
            "-H",
            "-p",
            "h100",
            "-N1",
            "--gpus=2",
            "--mem=0",
            f"--wrap={LAUNCH} {TRAIN}",
        )
    if how == "stdin":
        words, stdin = words[:-1], (site.work / "job.sh").read_text()
    if how == "het":
        words = ("--parsable", "-p", "h100", "-N1", "--gpus-per-node=2", ":", "-p", "cpu", "job.sh")
    if how == "own extra":
        words = ("--parsable", "-p", "h100", "--extra=mine", "job.sh")
    done = site.cluster.run(
        sys.executable, "-m", "preflight", "sbatch", *words, cwd=site.work, stdin=stdin
    )
    record = site.job(done)

    assert re.fullmatch(r"preflight=1,fits,\w{8},\w{8}", record["AdminComment"])
    assert re.fullmatch(r"\d+\n", done.stdout)


def test_a_failure_of_preflight_sbatch_passes_the_controller_too(site):
    site.policy("require")
    (site.work / "preflight_hooks.py").write_text(
        "from preflight.hookspecs import hookimpl\n@hookimpl\ndef preflight_read_launch(command): 1/0\n"
    )
    words = ("-m", "preflight", "sbatch", "-p", "h100", "job.sh")
    done = site.cluster.run(sys.executable, *words, cwd=site.work)

    assert "the job is submitted unchecked" in done.stderr
    assert site.job(done)["AdminComment"] == "preflight=not-judged,failed"


def _long(folder: Path) -> str:
    text = (folder / "job.sh").read_text()
    (folder / "long.sh").write_text(text + "# padding \u00e9\n" * 5000)
    return "long.sh"


def test_warn_tells_and_lets_in(site):
    site.policy("warn")
    done = site.sbatch("--parsable", "-p", "h100", "job.sh", guarded=False)

    assert done.returncode == 0 and re.fullmatch(r"\d+\n", done.stdout)
    assert "preflight: warning: it was not checked" in done.stderr


# Faults of ours


@pytest.mark.parametrize(
    ("helper", "said"),
    [
        ("/nonexistent/python -I", "exit code 127"),
        ("false", "exit code 1"),
        ("sh -c 'exit 3'", "exit code 3"),
        ("sh -c 'kill -SEGV $$'", "the check failed"),
        (f"{sys.executable} -I -c 1/0", "exit code 1"),
        (f"sh -c '{sys.executable} -I -m preflight.commands.guard_helper /nonexistent'", "code 70"),
    ],
)
def test_a_helper_that_breaks_stops_no_job(site, helper, said):
    site.policy("require")
    site.helper(helper)
    done = site.sbatch("-p", "a100", "-C", "gpu_mem:40gb", "job.sh")
    record = site.job(done)

    assert said in done.stderr and "the job was not judged and passes" in done.stderr
    assert record["AdminComment"] == "preflight=not-judged,failed"


def test_a_helper_that_hangs_is_ended_after_the_timeout(site):
    site.policy("require")
    assert site.preflight(
        "slurm", "install", "--client", str(site.folder), "--timeout", "1"
    ).returncode == 0  # fmt: skip
    hangs = site.work / "hangs"
    # Deaf to the polite signal, and somebody it started holds its output
    hangs.write_text("trap '' TERM\nsetsid sleep 5 2>&- &\nsleep 300\n")
    site.helper(f"sh {hangs}")
    done = site.sbatch("-p", "h100", "job.sh")

    assert "no answer within 1 s" in done.stderr
    assert site.job(done)["AdminComment"] == "preflight=not-judged,timeout"


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/bash\n#SBATCH -N1 --gpus=1 -H\nif accelerate launch; then fi ((\n",
        "#!/bin/bash\n#SBATCH -N1 --gpus=1 -H\nfor i in 1 2; do accelerate launch $X; done\n",
        "#!/bin/bash\n#SBATCH -N1 --gpus=1 -H\naccelerate launch --config_file /nonexistent x.py\n",
        "#!/bin/bash\n#SBATCH -N1 --gpus=1 -H\ntorchrun --nproc-per-node 4 \u00e9\udcff.py\n",
        "#!/usr/bin/python3\n#SBATCH -N1 --gpus=1 -H\nimport os; os.system('accelerate launch x')\n",
    ],
)
def test_what_cannot_be_judged_passes_and_keeps_its_stamp(site, text):
    site.policy("require")
    (site.work / "odd.sh").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = site.sbatch("-p", "h100", "odd.sh")

    assert site.job(done)["Extra"].startswith("preflight=")
    assert "Traceback" not in done.stderr


def test_a_guard_that_loses_its_file_or_its_sense_leaves_the_one_before_in_force(site):
    """slurmctld keeps what it has loaded; its next start would fail, which `slurm status` tells before."""
    site.policy("require")
    assert site.sbatch("-p", "h100", "job.sh", guarded=False).returncode != 0
    path = site.cluster.guard
    whole = path.read_text()
    site.cluster.set_guard("-- preflight: broken\nfunction (")
    broken = site.sbatch("-p", "h100", "job.sh", guarded=False)
    status = site.preflight("slurm", "status", "--dir", str(path.parent))
    site.cluster.set_guard(whole)

    assert "not accepted" in broken.stderr
    assert status.returncode == 1
    assert "it does not load" in " ".join(status.stdout.split())  # a long path breaks the line


def test_a_policy_file_that_is_gone_is_off(site):
    site.policy("require")
    (site.cluster.conf.parent / "preflight.policy").unlink()

    assert site.sbatch("-p", "h100", "job.sh", guarded=False).returncode == 0


def test_the_guard_is_there_after_the_controller_starts_again(site):
    site.policy("require")
    before = site.job(site.sbatch("-p", "h100", "job.sh"))
    site.cluster.daemon("stop", "slurmctld")
    site.cluster.daemon("start", "slurmctld")
    site.cluster.wait_for_controller()
    checked = site.sbatch("-p", "h100", "job.sh")
    unchecked = site.sbatch("-p", "h100", "job.sh", guarded=False)
    kept = site.cluster.facts(before["JobId"])

    assert checked.returncode == 0
    assert "not accepted" in unchecked.stderr
    assert kept["Extra"] == before["Extra"]


def test_uninstalling_leaves_the_cluster_as_it_was(site):
    own = site.cluster.guard.read_text()
    site.policy("require")
    folder = str(site.cluster.guard.parent)
    assert site.preflight("slurm", "uninstall", "--controller", folder).returncode == 0
    client = site.preflight("slurm", "uninstall", "--client", str(site.folder))
    done = site.sbatch("-p", "a100", "-C", "gpu_mem:40gb", "job.sh")

    assert site.cluster.guard.read_text() == own
    assert "lets everything pass" in client.stdout
    assert done.returncode == 0 and done.stderr == ""

"""`preflight sbatch`, `srun` and `salloc` on a real Slurm: refuse, hint, rewrite, pass, and never stand in the way."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster

EXAMPLES = Path(__file__).parent.parent.parent / "examples" / "tiny-llama"
PREFLIGHT = (sys.executable, "-m", "preflight")
SMALL, MIDDLE, HUGE = (f"meta-llama/Llama-3.{name}" for name in ("2-1B", "1-8B", "1-405B"))

SCRIPT = """\
#!/bin/bash
#SBATCH --gres=gpu:8
#SBATCH --nodes=1 {options}
set -eo pipefail
MODEL={model}
export LAUNCHER="accelerate launch --config_file fsdp2.yaml --num_processes 8 --machine_rank \\$SLURM_PROCID"
export CMD="train_sft.py --model_name_or_path $MODEL --max_length 4096 --per_device_train_batch_size 4 {flags} --output_dir out"
srun bash -c "$LAUNCHER $CMD"
"""
LINE = 8
TORCHRUN = (
    "torchrun --nproc_per_node=8 train_sft.py --per_device_train_batch_size 1 --model_name_or_path "
)


def script(model: str, flags: str = "", options: str = "--mem=900G") -> str:
    return SCRIPT.format(model=model, flags=flags, options=options)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(EXAMPLES, folder)
    return folder


def submit(
    cluster: Cluster, project: Path, *words: str, stdin: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    return cluster.run(*PREFLIGHT, *words, cwd=project, stdin=stdin, env=env)


def job_of(done: subprocess.CompletedProcess[str]) -> str:
    match = re.fullmatch(r"Submitted batch job (\d+)\n", done.stdout)
    assert match, done.stdout + done.stderr
    return match[1]


def facts_of(cluster: Cluster, job: str) -> dict[str, str]:
    text = cluster.output("scontrol", "-o", "show", "job", job)
    return dict(word.partition("=")[::2] for word in text.split() if "=" in word)


def queued(cluster: Cluster) -> list[str]:
    return cluster.output("squeue", "-h", "-o", "%i").split()


def test_a_job_that_fits_is_submitted_and_stdout_is_sbatchs(cluster, project):
    (project / "job.sh").write_text(script(SMALL))
    plain = submit(cluster, project, "sbatch", "-H", "-p", "h100", "job.sh")
    parsable = submit(cluster, project, "sbatch", "-H", "--parsable", "-p", "h100", "job.sh")

    assert plain.stderr.startswith("preflight: fits. Peak ")
    assert f"on h100-[01-02] (h100, 79.1 GiB) (job.sh:{LINE})" in plain.stderr
    assert facts_of(cluster, job_of(plain))["JobName"] == "job.sh"
    assert parsable.stdout.strip().isdecimal()


def test_a_job_that_fits_nowhere_is_not_submitted(cluster, project):
    (project / "job.sh").write_text(script(HUGE))
    done = submit(cluster, project, "sbatch", "-p", "h100", "job.sh")

    lines = done.stderr.rstrip().split("\n")
    assert (done.returncode, done.stdout) == (78, "")
    assert lines[0] == f"preflight: does not fit on any node that the job may get (job.sh:{LINE})"
    assert lines[-1].startswith("next: nothing was submitted")
    assert queued(cluster) == []


def test_a_job_that_fits_on_some_nodes_gets_a_hint_and_with_fix_the_option(cluster, project):
    flags = "--gradient_checkpointing false --per_device_train_batch_size 1"
    (project / "job.sh").write_text(script(MIDDLE, flags))
    hinted = submit(cluster, project, "sbatch", "-H", "-p", "a100", "job.sh")
    fixed = submit(cluster, project, "sbatch", "--fix", "-H", "-p", "a100", "job.sh")

    assert "preflight: may not fit: it depends on the node" in hinted.stderr
    assert "fix  --constraint=gpu_mem:80gb keeps it off a100-01" in hinted.stderr
    assert facts_of(cluster, job_of(hinted))["Features"] == "(null)"
    assert facts_of(cluster, job_of(fixed))["Features"] == "gpu_mem:80gb"


def test_with_fix_a_rewritten_copy_is_submitted_and_the_users_files_stay(cluster, project):
    text = script(MIDDLE, "--gradient_checkpointing false")
    (project / "job.sh").write_text(text)
    before = {path: path.read_bytes() for path in project.iterdir() if path.is_file()}
    refused = submit(cluster, project, "sbatch", "-p", "h100", "job.sh")
    done = submit(cluster, project, "sbatch", "--fix", "-H", "-p", "h100", "job.sh")
    submitted = cluster.output("scontrol", "write", "batch_script", job_of(done), "-")

    assert refused.returncode == 78
    assert "it fits: preflight sbatch --fix -p h100 job.sh" in refused.stderr
    assert done.stderr.rstrip().endswith(
        "next: submitted rewritten, as .preflight/fsdp2.yaml, .preflight/job.sh"
    )
    assert submitted.rstrip("\n") == (project / ".preflight" / "job.sh").read_text().rstrip("\n")
    assert 'LAUNCHER="accelerate launch --config_file .preflight/fsdp2.yaml' in submitted
    assert "--per_device_train_batch_size 1" in submitted
    assert {path: path.read_bytes() for path in before} == before


def test_a_policy_may_ask_for_the_rewrite(cluster, project):
    (project / "preflight.toml").write_text("[policy]\nrewrite_jobs = true\n")
    (project / "job.sh").write_text(script(MIDDLE, "--gradient_checkpointing false"))
    done = submit(cluster, project, "sbatch", "-H", "-p", "h100", "job.sh")

    assert "next: submitted rewritten" in done.stderr
    assert job_of(done)


def test_wrap_is_read_refused_and_rewritten(cluster, project):
    words = ("-H", "-p", "h100", "--gres=gpu:8", "--mem=900G")
    refused = submit(cluster, project, "sbatch", *words, "--wrap", TORCHRUN + HUGE)
    passed = submit(cluster, project, "sbatch", *words, "--wrap", TORCHRUN + SMALL)
    launch = "accelerate launch --config_file fsdp2.yaml --num_processes 8 train_sft.py --max_length 4096"
    more = f"--per_device_train_batch_size 4 --gradient_checkpointing false --model_name_or_path {MIDDLE}"
    fixed = submit(cluster, project, "sbatch", "--fix", *words, f"--wrap={launch} {more}")
    submitted = cluster.output("scontrol", "write", "batch_script", job_of(fixed), "-")

    assert refused.returncode == 78 and "(--wrap)" in refused.stderr
    assert job_of(passed)
    assert "--config_file .preflight/fsdp2.yaml" in submitted


def test_standard_input_is_read_and_reaches_sbatch_as_it_was(cluster, project):
    text = script(SMALL) + "# \u00e4\n"
    refused = submit(cluster, project, "sbatch", "-H", "-p", "h100", stdin=script(HUGE))
    passed = submit(cluster, project, "sbatch", "-H", "-p", "h100", stdin=text)
    submitted = cluster.output("scontrol", "write", "batch_script", job_of(passed), "-")

    assert refused.returncode == 78 and f"(standard input:{LINE})" in refused.stderr
    assert submitted.rstrip("\n") == text.rstrip("\n")


def test_only_a_test_submits_nothing(cluster, project):
    (project / "job.sh").write_text(script(SMALL))
    done = submit(cluster, project, "sbatch", "--test-only", "-p", "h100", "job.sh")

    assert done.returncode == 0
    assert "to start at" in done.stderr
    assert queued(cluster) == []


def test_an_array_and_a_heterogeneous_job_are_judged(cluster, project):
    array = script(MIDDLE, "--seed $SLURM_ARRAY_TASK_ID", "--array=3-5 --mem=900G")
    (project / "array.sh").write_text(array)
    submitted = submit(cluster, project, "sbatch", "-H", "-p", "h100", "array.sh")
    # The second component has GPUs that the launch does not fit; the first one does.
    het = (
        "#!/bin/bash\n#SBATCH -p h100 --gres=gpu:8 --nodes=1 --mem=900G\n#SBATCH hetjob\n"
        "#SBATCH -p l40s --gres=gpu:4 --nodes=1\n"
        f"srun --het-group=0 {TORCHRUN}{SMALL} &\n"
        f"srun --het-group=1 torchrun --nproc_per_node=4 train_sft.py --model_name_or_path {MIDDLE} &\nwait\n"
    )
    (project / "het.sh").write_text(het)
    refused = submit(cluster, project, "sbatch", "-H", "het.sh")

    assert "preflight: fits" in submitted.stderr and job_of(submitted)
    assert refused.returncode == 78
    assert "(het.sh:6)" in refused.stderr and "l40s-01" in refused.stderr
    assert "(het.sh:5)" not in refused.stderr


def test_a_job_without_gpus_is_submitted_without_a_word(cluster, project):
    done = submit(cluster, project, "sbatch", "-H", "-p", "cpu", "--wrap", "true")

    assert job_of(done)
    assert done.stderr == ""


def test_off_submits_unchecked(cluster, project):
    (project / "job.sh").write_text(script(HUGE))
    done = submit(cluster, project, "sbatch", "-H", "-p", "h100", "job.sh", PREFLIGHT="off")

    assert job_of(done)
    assert "skipped, because PREFLIGHT=off" in done.stderr


def test_a_warning_submits_all_the_same(cluster, project):
    (project / "job.sh").write_text(script(HUGE))
    done = submit(cluster, project, "sbatch", "--warn", "-H", "-p", "h100", "job.sh")

    assert job_of(done)
    assert "does not fit on any node" in done.stderr


def test_what_cannot_be_told_is_said_and_submitted(cluster, project):
    words = ("-H", "-p", "h100", "--gres=gpu:8")
    nothing = submit(cluster, project, "sbatch", *words, "--wrap", "./my-own-launcher x")
    unknown = submit(
        cluster, project, "sbatch", *words, "--wrap", "torchrun --nproc_per_node=8 none.py"
    )

    for done in (nothing, unknown):
        assert job_of(done)
        assert done.stderr.startswith("preflight: cannot tell: ")


def test_what_sbatch_refuses_is_for_sbatch_to_say(cluster, project):
    (project / "job.sh").write_text(script(SMALL))
    missing = submit(cluster, project, "sbatch", "-p", "h100", "missing.sh")
    wrong = submit(cluster, project, "sbatch", "-p", "no-such-partition", "job.sh")

    assert missing.returncode == 1 and "sbatch: error: Unable to open file" in missing.stderr
    assert wrong.returncode == 1 and "sbatch: error:" in wrong.stderr


def test_a_failure_of_ours_submits_the_job(cluster, project):
    (project / "preflight_hooks.py").write_text(
        "import preflight\n@preflight.hookimpl\ndef preflight_memory_terms(plan, model):\n    1 / 0\n"
    )
    (project / "job.sh").write_text(script(HUGE))
    done = submit(cluster, project, "sbatch", "-H", "-p", "h100", "job.sh")

    assert job_of(done)
    assert "preflight: not checked" in done.stderr or "cannot tell" in done.stderr
    assert "submitted unchecked" in done.stderr


def test_a_slurm_that_does_not_name_its_nodes_is_no_obstacle(cluster, project):
    shims = project / "bin"
    shims.mkdir()
    for name in ("scontrol", "sinfo"):
        (shims / name).write_text("#!/bin/sh\nexit 1\n")
        (shims / name).chmod(0o755)
    (project / "job.sh").write_text(script(HUGE))
    path = f"{shims}:{cluster.path}"
    done = submit(cluster, project, "sbatch", "-H", "-p", "h100", "job.sh", PATH=path)

    assert job_of(done)
    assert "preflight: cannot tell: Slurm does not say what nodes there are" in done.stderr


def test_wrong_options_of_ours_submit_nothing(cluster, project):
    (project / "job.sh").write_text(script(SMALL))
    done = submit(cluster, project, "sbatch", "--set", "no_such=1", "-p", "h100", "job.sh")

    assert done.returncode == 78
    assert "no_such" in done.stderr
    assert queued(cluster) == []


def test_srun_and_salloc_are_judged_and_started(cluster, project):
    words = ("-p", "h100", "-N1", "--gres=gpu:8", "--mem=900G")
    refused = submit(cluster, project, "srun", *words, *TORCHRUN.split(), HUGE)
    salloc = submit(cluster, project, "salloc", *words, *TORCHRUN.split(), HUGE)
    started = submit(cluster, project, "srun", *words, "echo", "hello")

    assert (refused.returncode, refused.stdout) == (78, "")
    assert "does not fit on any node that the job may get (srun)" in refused.stderr
    assert salloc.returncode == 78
    assert (started.returncode, started.stdout) == (0, "hello\n")


def test_srun_in_a_job_is_judged_for_the_gpus_of_that_job(cluster, project):
    """The job has four of a node's eight cards, and `preflight srun` in it starts nothing that does not fit."""
    (project / "job.sh").write_text(
        f"#!/bin/bash\n{' '.join(PREFLIGHT)} srun {TORCHRUN}{HUGE}\necho code $?\n"
        f"{' '.join(PREFLIGHT)} srun echo hello\n"
    )
    out = project / "out.txt"
    job = cluster.run(
        "sbatch", "--parsable", "-p", "a100", "-N1", "--gres=gpu:8", "-C", "gpu_mem:40gb", f"--output={out}", "job.sh", cwd=project
    )  # fmt: skip
    cluster.finished(job.stdout.strip(), timeout_s=120)
    said = out.read_text()

    assert "code 78\n" in said
    assert "a100-01 (a100, 39.4 GiB)" in said
    assert said.rstrip().endswith("hello")

"""A folder of jobs is looked through for one kind of GPU where no Slurm answers, and every answer is in plain words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.cli import main

HEAD = "#!/bin/bash\n#SBATCH --gres=gpu:h100:8\n#SBATCH --partition=no-such-partition\n"
TRAIN = """\
from dataclasses import dataclass
from datasets import load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, HfArgumentParser, Trainer, TrainingArguments

@dataclass
class Own:
    model_name_or_path: str = "x"
    max_length: int = 2048

args, own = HfArgumentParser((TrainingArguments, Own)).parse_args_into_dataclasses()
tokenizer = AutoTokenizer.from_pretrained(own.model_name_or_path)
rows = load_dataset("rows", split="train").map(
    lambda row: tokenizer(row["text"], truncation=True, max_length=own.max_length)
)
Trainer(AutoModelForCausalLM.from_pretrained(own.model_name_or_path), args, train_dataset=rows).train()
"""
LAUNCH = "torchrun --nproc_per_node=8 train.py --bf16 --max_length 2048 --model_name_or_path"
SMALL, HUGE = "Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-70B"
JOBS = {
    "small.sh": f"{LAUNCH} {SMALL}",
    "huge.sh": f"{LAUNCH} {HUGE}",
    "unknown.sh": f"{LAUNCH} nobody/has-this-model",
    "filled.sh": f"ROWS=$(grep rows c.yaml)\n{LAUNCH} {SMALL} --per_device_train_batch_size $ROWS",
    "refused.sh": f"accelerate launch --num_machines 2 --same_network {LAUNCH.partition('=8 ')[2]} {SMALL}",
    "empty.sh": f'accelerate launch --num_processes 8 --config_file "$1" train.py --bf16 --model_name_or_path {SMALL}',
}


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in JOBS.items():
        (tmp_path / name).write_text(f"{HEAD}{text}\n")
    (tmp_path / "train.py").write_text(TRAIN)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def audit(capsys, *words):
    code = main(["slurm", "audit", *words, "--format", "json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return {Path(job["name"]).name: job for job in json.loads(printed.out)["jobs"]}


def test_a_folder_is_judged_for_a_device_without_slurm(jobs, capsys):
    """Partitions and types are those of a cluster that is not asked."""
    found = audit(capsys, ".", "--device", "h100-sxm-80")

    assert found["small.sh"]["verdict"] == "fits"
    assert found["huge.sh"]["verdict"] == "does_not_fit"
    assert found["small.sh"]["launches"][0]["nodes"][0]["gpus"].startswith("any-node (h100-sxm-80")


def test_the_device_decides(jobs, capsys):
    at = {gib: audit(capsys, "huge.sh", "--device", f"GPU:{gib}") for gib in (20, 2000)}

    assert [found["huge.sh"]["verdict"] for found in at.values()] == ["does_not_fit", "fits"]


def test_without_a_device_and_without_slurm_the_way_out_is_named(jobs, capsys):
    assert main(["slurm", "audit", "."]) == 2
    assert "--device h100-sxm-80" in capsys.readouterr().err


def test_a_device_that_nobody_knows_is_bad_input(jobs, capsys):
    assert main(["slurm", "audit", ".", "--device", "no-such-gpu"]) == 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unknown.sh", "model not known"),
        ("filled.sh", "micro_batch_size not known"),
        ("refused.sh", "several nodes need --machine_rank"),
        ("empty.sh", "the config file '' has no name"),
    ],
)
def test_why_a_job_cannot_be_told_is_said_in_plain_words(jobs, capsys, name, words):
    """No class of ours, no mark of the shell reader, and nothing that is only worth knowing."""
    found = audit(capsys, name, "--device", "h100-sxm-80")[name]
    said = found["problem"] or found["launches"][0]["problem"]

    assert found["verdict"] == "unknown"
    assert words in said
    assert "BadInput" not in said and "\n" not in said and "same_network" not in said
    assert not [each for each in said if "\ue000" <= each <= "\uf8ff"]


STUBS = {
    "sinfo": "echo 'n1|gpu*|gpu:h100:8|(null)|idle|1000000|64'",
    "scontrol": "echo 'PartitionName=gpu Default=YES'",
    "sbatch": 'echo submitted "$@"',
}


@pytest.mark.parametrize("name", ["small.sh", "unknown.sh", "filled.sh", "refused.sh", "huge.sh"])
def test_explaining_changes_no_outcome(tmp_path, name):
    """A job that cannot be judged is submitted, however much is asked to be said of it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program, body in STUBS.items():
        (programs / program).write_text(f"#!/bin/sh\n{body}\n")
        (programs / program).chmod(0o755)
    (tmp_path / name).write_text(f"#!/bin/bash\n#SBATCH --gres=gpu:h100:8\n{JOBS[name]}\n")
    (tmp_path / "train.py").write_text(TRAIN)
    env = {**os.environ, "PATH": f"{programs}:/usr/bin:/bin", "HOME": str(tmp_path)}

    def submitted(*options: str) -> tuple[int, str]:
        words = (sys.executable, "-m", "preflight", "sbatch", *options, name)
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True)
        return done.returncode, done.stdout.partition(" ")[0]

    plain, explained = submitted(), submitted("--explain")

    assert plain == explained
    assert plain == ((78, "") if name == "huge.sh" else (0, "submitted"))


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("small.sh", 0, "fits"),
        ("huge.sh", 78, "does not fit"),
        ("unknown.sh", 0, "unknown"),
        ("gone.sh", 78, "the job script cannot be read"),
    ],
)
def test_sbatch_judges_for_a_device_and_submits_nothing(
    jobs, monkeypatch, capsys, name, code, words
):
    """An sbatch on the path is there to be found; a Slurm is not."""
    programs = jobs / "bin"
    programs.mkdir()
    (programs / "sbatch").write_text("#!/bin/sh\necho submitted\n")
    (programs / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(jobs))
    judged = main(["sbatch", "--device", "h100-sxm-80", name]), *capsys.readouterr()
    both = main(["sbatch", "--device", "h100-sxm-80", "--fix", name]), capsys.readouterr().err

    assert judged[:2] == (code, ""), judged[2]
    assert words in judged[2] and "next: nothing was " in judged[2]
    assert both[0] == 78 and "--device submits nothing" in both[1]


def test_nodes_on_the_command_line_count_without_a_slurm(tmp_path):
    (tmp_path / "job.sh").write_text(
        "#!/bin/bash\n#SBATCH --gpus-per-node=8\n"
        f"srun torchrun --nnodes=$SLURM_NNODES --nproc_per_node=8 train.py --bf16 --model_name_or_path {SMALL}\n"
    )
    (tmp_path / "train.py").write_text(TRAIN)
    command = (sys.executable, "-m", "preflight", "sbatch", "--device", "h100-sxm-80", "--explain")
    done = subprocess.run(
        (*command, "--nodes=4", "job.sh"), cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0 and "--nnodes=4" in done.stderr, done.stderr


def test_the_job_that_init_writes_is_judged_without_slurm(tmp_path, monkeypatch, capsys):
    """Its script cuts the list of its nodes at blanks, as many do."""
    monkeypatch.chdir(tmp_path)
    asked = "init --model Qwen/Qwen2.5-0.5B --gpu h100 --num-gpus 16 --slurm --output ."
    assert main(asked.split()) == 0
    capsys.readouterr()

    assert main(["sbatch", "--device", "h100-sxm-80", "job.sbatch"]) == 0
    told = capsys.readouterr().err
    assert told.startswith("preflight: fits. "), told

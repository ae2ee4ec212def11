"""A command that hands a file to a shell or a scheduler: each launch of the file is told, the worst decides the exit code."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from in_process import preflight
from said_versions import say_versions
from toy import preflight as in_own_process

TRAIN = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

(arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Trainer(AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.1-8B"), arguments).train()
"""
SCRIPT = """\
#!/bin/bash
export RANKS=${1:-8}
OPTIONS=(--output_dir out --bf16 true)
python prepare.py
for seed in 1 2; do
  torchrun --nproc_per_node $RANKS train.py "${OPTIONS[@]}" --fsdp full_shard
done
torchrun --nproc_per_node 2 train.py "${OPTIONS[@]}"
echo "trained" > done.txt
"""
PLENTY = ("--device", "NVIDIA H100 80GB HBM3", "--set", "seq_len=512")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "prepare.py").write_text("print('data')\n")
    (tmp_path / "train.sh").write_text(SCRIPT)
    one = SCRIPT.replace("torchrun --nproc_per_node 2", ": torchrun")
    (tmp_path / "one.sh").write_text(one)
    (tmp_path / "one.sh").chmod(0o755)
    say_versions(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ["bash train.sh", "nohup bash -x train.sh 16", "sh ./train.sh"])
def test_each_launch_is_told_and_the_worst_is_the_exit_code(folder, command):
    done = preflight(folder, "check", *PLENTY, "--", *command.split())

    first, second = done.stdout.splitlines()[:2]
    ranks = 16 if command.endswith("16") else 8
    name = command.split()[-1] if command.startswith("sh") else "train.sh"
    assert first.startswith(f"{name}:6: fits") and f"({ranks} x H100" in first
    assert second.startswith(f"{name}:8: does not fit")
    assert done.returncode == 1


@pytest.mark.parametrize("command", ["bash one.sh 4", "./one.sh 4", "env RUN=1 ./one.sh 4"])
def test_the_only_launch_has_its_whole_report(folder, command):
    done = preflight(folder, "check", *PLENTY, "--format", "json", "--", *command.split())

    report = json.loads(done.stdout)
    assert report["plan"]["world_size"] == 4
    assert report["verdict"] == "fits"
    assert report["notes"][0] == f"the launch is that of {command.split()[-2]}:6"


@pytest.mark.parametrize("before", [(), ("env", "RUN=1"), ("srun",)])
def test_a_text_with_conditions_is_followed_as_a_script_is(folder, before):
    """Words of a command that runs twice, or maybe not, cannot be written again: what they start is told all the same."""
    text = SCRIPT.replace("${1:-8}", "${2:-8}")
    command = (*before, "bash", "-ec", text, "name", "x", "16")
    done = preflight(folder, "check", *PLENTY, "--", *command)

    first, second = done.stdout.splitlines()[:2]
    assert first.startswith("bash -c:6: fits") and "(16 x H100" in first
    assert second.startswith("bash -c:8: does not fit")
    assert done.returncode == 1


def test_run_starts_a_script_as_it_is_or_not_at_all(folder):
    """Replaces this process by the shell: what the script does beside its launches, it does."""
    (folder / "torchrun").write_text("#!/bin/sh\necho started $2\n")
    (folder / "torchrun").chmod(0o755)
    env = {"PATH": f"{folder}:{os.environ['PATH']}"}
    refused = in_own_process(folder, "run", *PLENTY, "--", "bash", "train.sh", **env)
    began = (folder / "done.txt").exists()
    started = in_own_process(folder, "run", *PLENTY, "--", "./one.sh", **env)

    assert (refused.returncode, refused.stdout, began) == (78, "", False)
    assert "train.sh:8: does not fit" in refused.stderr
    assert started.returncode == 0, started.stderr
    assert started.stdout.count("started 8") == 2
    assert (folder / "done.txt").exists()


def test_a_rewrite_of_the_only_launch_is_refused_under_run_and_written_under_fix(folder):
    """A script is started as it is: that a copy of one of its lines would fit does not help it."""
    tight = ("--device", "NVIDIA H100 80GB HBM3", "--set", "seq_len=4096")
    run = in_own_process(folder, "run", *tight, "--", "bash", "one.sh")
    fix = preflight(folder, "fix", *tight, "--", "bash", "one.sh")

    assert run.returncode == 78 and "fits rewritten" in run.stderr
    assert fix.returncode == 0 and fix.stdout.startswith("torchrun --nproc_per_node 8 train.py")


def test_fix_asks_for_one_of_several(folder):
    done = preflight(folder, "fix", *PLENTY, "--", "bash", "train.sh")

    assert done.returncode == 2
    assert "train.sh:6, train.sh:8" in done.stderr


def test_what_only_the_shell_knows_is_said_and_started(folder):
    (folder / "asks.sh").write_text(
        "read KIND\naccelerate launch --mixed_precision $KIND train.py\n"
    )
    done = preflight(folder, "check", *PLENTY, "--", "bash", "asks.sh")

    assert done.returncode == 0
    assert done.stdout.startswith("asks.sh:2: not checked: only a shell knows $KIND")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("torchrun --nproc_per_node 2 --master_addr $ADDR train.py --bf16 true\n", "$ADDR"),
        ("torchrun --nproc_per_node $N --master_addr $ADDR train.py --bf16 true\n", "$N, $ADDR"),
        ('export ADDR=${HOST}\nFIRST="$ADDR"\ntorchrun --master_addr $FIRST train.py --bf16 true\n', "$HOST"),
        ("ADDR=\ntorchrun --master_addr $ADDR train.py --bf16 true\n", None),
        ("torchrun --no_such_option 3 --master_addr $ADDR train.py\n", None),
    ],
)  # fmt: skip
def test_a_variable_that_nobody_has_set_is_no_option_of_the_launcher(folder, text, names):
    """The shell drops the word, and the option in front takes the script for its value: bash says so, too."""
    (folder / "unset.sh").write_text(text)
    if names:
        count = text.replace("torchrun", "count() { echo $#; }; count")
        words = subprocess.run(["bash", "-c", count], capture_output=True, text=True, env={})
        assert int(words.stdout) == len(text.splitlines()[-1].split()) - 1 - len(names.split())
    done = preflight(folder, "check", *PLENTY, "--", "bash", "unset.sh")

    if names:
        assert done.returncode == 0 and f"only a shell knows {names}\n" in done.stdout
    else:
        assert done.returncode == 2 and "torchrun has no option" in done.stderr


RANKS = ("$(nvidia-smi -L | wc -l)", "$GPUS", "$(( N * 8 ))", "`count`")


@pytest.mark.parametrize("is_in_script", [True, False])
@pytest.mark.parametrize("counted", RANKS)
def test_ranks_that_only_the_shell_counts_are_open(folder, counted, is_in_script):
    """It was bad input that a login node has no GPU to count, and so was a line of a README."""
    words = ["torchrun", "--nproc_per_node", counted, "train.py"]
    (folder / "counts.sh").write_text(f"read N GPUS\n{' '.join(words)}\n")
    launch = ["bash", "counts.sh"] if is_in_script else words
    done = preflight(folder, "check", *PLENTY, "--format", "json", "--", *launch)

    assert "world_size" in json.loads(done.stdout)["open"]


@pytest.mark.parametrize(
    "where",
    [
        '$(cd "$(dirname "$0")" && pwd)',
        '$( cd -- "$( dirname -- "${BASH_SOURCE[0]}" )" &> /dev/null && pwd )',
        '$(dirname "$(readlink -f "$0")")',
        "${0%/*}",
    ],
)
def test_a_script_that_a_shell_is_given_knows_where_it_lies(folder, where):
    (folder / "far").mkdir()
    (folder / "far" / "start.sh").write_text(
        f'DIR="{where}"\ntorchrun --nproc_per_node 2 "$DIR"/../train.py\n'
    )
    done = preflight(folder, "check", *PLENTY, "--", "bash", "far/start.sh")

    assert "PF128" not in done.stdout
    assert done.stdout.startswith("preflight: ")


def test_a_script_in_a_folder_that_only_a_shell_knows_is_not_said_to_be_missing(folder):
    words = ["torchrun", "--nproc_per_node", "2", "$(git rev-parse --show-toplevel)/train.py"]
    done = preflight(folder, "check", *PLENTY, "--", *words)

    assert done.returncode == 0
    assert "PF128" not in done.stdout


def test_a_script_without_a_launch_is_what_nobody_reads(folder):
    (folder / "setup.sh").write_text("pip install trl\n")
    done = preflight(folder, "check", *PLENTY, "--", "bash", "setup.sh")

    assert done.returncode == 0
    assert "PF125" in done.stdout


MAKEFILE = """\
N = 8
OPTIONS := --output_dir out --bf16 true
.PHONY: train small
train: data  ## all of it
\ttorchrun --nproc_per_node $(N) train.py $(OPTIONS) --fsdp full_shard
small: N = 1
small:
\ttorchrun --nproc_per_node 2 train.py $(OPTIONS)
data:
\tpython prepare.py
"""


def test_make_runs_the_recipes_of_its_targets(folder):
    (folder / "Makefile").write_text(MAKEFILE)
    first = preflight(folder, "check", *PLENTY, "--", "make")
    given = preflight(folder, "check", *PLENTY, "--", "make", "-s", "train", "N=16")
    small = preflight(folder, "check", *PLENTY, "--", "make", "small")

    assert "(8 x H100" in first.stdout and "note: the launch is that of Makefile:5" in first.stdout
    assert "(16 x H100" in given.stdout
    assert small.returncode == 1 and "(2 x H100" in small.stdout


def test_what_a_reader_refuses_stops_no_script_unless_a_policy_does(folder):
    """The script may make the file that is missing before it comes to its launch."""
    (folder / "own.sh").write_text(
        "cp given.yaml made.yaml\naccelerate launch --config_file made.yaml train.py\necho done\n"
    )
    checked = preflight(folder, "check", *PLENTY, "--", "bash", "own.sh")
    run = in_own_process(folder, "run", *PLENTY, "--", "bash", "own.sh")
    (folder / "preflight.toml").write_text('[policy]\nrefuse = ["unknown"]\n')
    refused = in_own_process(folder, "run", *PLENTY, "--", "bash", "own.sh")

    assert checked.returncode == 2 and "made.yaml" in checked.stderr + checked.stdout
    assert run.stdout.endswith("done\n") and "started all the same" in run.stderr
    assert refused.returncode == 78


def test_a_page_is_written_of_the_only_launch(folder):
    done = preflight(folder, "check", *PLENTY, "--report", "a.html", "--", "bash", "one.sh")
    several = preflight(folder, "check", *PLENTY, "--report", "b.html", "--", "bash", "train.sh")

    assert done.returncode == 0 and (folder / "a.html").exists()
    assert several.returncode == 2 and not (folder / "b.html").exists()


JOB = """\
#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gres=gpu:h100:8
srun torchrun --nnodes $SLURM_NNODES --nproc_per_node $SLURM_GPUS_ON_NODE train.py --output_dir out --bf16 true --fsdp full_shard
"""


@pytest.mark.parametrize(
    ("command", "ranks"),
    [("./job.sh", 16), ("bash job.sh", 16), ("sbatch job.sh", 16), ("sbatch -N 4 job.sh", 32)],
)
def test_a_job_script_is_read_for_the_job_that_it_asks_for(folder, command, ranks):
    """Outside a job no variable of Slurm is set: what `#SBATCH` lines and the command ask for says what they will be."""
    (folder / "job.sh").write_text(JOB)
    (folder / "job.sh").chmod(0o755)
    done = preflight(
        folder, "check", "--set", "seq_len=512", "--format", "json", "--", *command.split()
    )

    report = json.loads(done.stdout)
    assert report["plan"]["world_size"] == ranks
    assert report["device"]["key"] == "h100-sxm-80"
    assert report["notes"][0] == "the launch is that of job.sh:4" or command.startswith("./")


def test_a_script_inside_a_job_has_the_variables_of_that_job(folder):
    (folder / "job.sh").write_text(JOB)
    job = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "3", "SLURM_GPUS_ON_NODE": "4"}
    done = preflight(folder, "check", *PLENTY, "--format", "json", "--", "bash", "job.sh", **job)

    assert json.loads(done.stdout)["plan"]["world_size"] == 12

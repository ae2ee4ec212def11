"""Inside a job of a real Slurm: the GPUs that it really got decide, before the first rank starts.

The nodes are emulated, so a program named nvidia-smi says what each one would: the path to the driver's tool
is the real one, its answer is the test's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster

from preflight.slurm.allocation import Allocation, NodeGpu, is_in_job, num_nodes, options_of_job
from preflight.units import GIB

NVIDIA_SMI = """\
#!/bin/sh
case "$SLURMD_NODENAME" in
    *-02) size=81559 name="NVIDIA H100 80GB HBM3" ;;
    *) size={size} name="{name}" ;;
esac
case "$*" in
    *query-gpu*) for i in 0 1 2 3 4 5 6 7; do echo "$name, $size, $size, 9.0, Disabled, 500, GPU-$i"; done ;;
esac
"""
SMALL, LARGE = (40960, "NVIDIA A100-SXM4-40GB"), (81559, "NVIDIA H100 80GB HBM3")
LAUNCHER = '#!/bin/sh\necho "rank of $SLURMD_NODENAME" >>"$RAN"\n'
TRAIN = (
    "accelerate launch --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP"
    " --num_processes {ranks} --num_machines {nodes} --machine_rank 0 --main_process_ip 10.0.0.1"
    " --main_process_port 29500 train.py --model_name_or_path meta-llama/Llama-3.1-8B"
    " --per_device_train_batch_size 1 --max_length 2048 --bf16 True --gradient_checkpointing True"
)
TRAINER = """\
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

config, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model=model.model_name_or_path, args=config).train()
"""


class Job:
    """A job script in a folder with a driver's tool and a launcher that only says that it ran."""

    def __init__(self, cluster: Cluster, work: Path) -> None:
        self.cluster, self.work = cluster, work
        self.bin = work / "bin"
        self.bin.mkdir()
        (work / "train.py").write_text(TRAINER)
        self.program("accelerate", LAUNCHER)

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, size: tuple[int, str], lines: str, *words: str, **env: str) -> str:
        """Run a job to its end; return what it printed."""
        self.program("nvidia-smi", NVIDIA_SMI.format(size=size[0], name=size[1]))
        script = self.work / "job.sh"
        script.write_text(f"#!/bin/bash\n{lines}\n")
        path = f"{self.bin}:{Path(sys.executable).parent}:{self.cluster.path}"
        out = self.work / "out"
        asked = ("--parsable", "--partition=h100", "--gpus-per-node=8", f"--output={out}", *words)
        done = self.cluster.run(
            "sbatch",
            *asked,
            str(script),
            cwd=self.work,
            env={"PATH": path, "RAN": str(self.work / "ran"), **env},
        )
        assert done.returncode == 0, done.stderr
        self.facts = self.cluster.finished(done.stdout.strip(), timeout_s=60)
        return out.read_text()

    @property
    def ran(self) -> list[str]:
        path = self.work / "ran"
        return sorted(path.read_text().splitlines()) if path.exists() else []


@pytest.fixture
def job(cluster: Cluster, tmp_path: Path) -> Job:
    return Job(cluster, tmp_path)


HOOK = 'eval "$(preflight slurm hook)"\n'
ONE_NODE = f"srun --ntasks=1 {TRAIN.format(ranks=2, nodes=1)}"
TWO_NODES = f"srun --nodes=2 --ntasks-per-node=1 {TRAIN.format(ranks=2, nodes=2)}"


def test_a_launch_that_does_not_fit_the_gpus_of_the_job_ends_before_its_first_task(job):
    out = job.run(SMALL, f"{HOOK}{ONE_NODE}\necho exit=$?", "--nodes=1", "-w", "h100-01")

    assert job.ran == []
    assert "preflight: does not fit NVIDIA A100-SXM4-40GB of h100-01: " in out
    assert "next: the step was not started" in out
    assert "exit=1" in out


def test_a_launch_that_fits_starts_as_if_nothing_were_there(job):
    out = job.run(
        LARGE, f"{HOOK}{ONE_NODE}\nsrun --ntasks=1 hostname", "--nodes=1", "-w", "h100-01"
    )

    assert job.ran == ["rank of h100-01"]
    assert "preflight" not in out


def test_the_smallest_gpu_of_all_nodes_decides(job):
    out = job.run(SMALL, f"{HOOK}{TWO_NODES}", "--nodes=2")

    assert job.ran == []
    assert "does not fit NVIDIA A100-SXM4-40GB of h100-01" in out
    assert "the nodes of the job differ" in out and "h100-02: NVIDIA H100 80GB HBM3" in out


def test_the_hook_lets_start_what_it_cannot_judge_and_what_is_told_to_start(job):
    broken = ONE_NODE.replace("--num_processes 2", "--num_processes two")
    lines = f"{HOOK}{broken}\nPREFLIGHT=off {ONE_NODE}\nrm bin/nvidia-smi\n{ONE_NODE}"
    out = job.run(SMALL, lines, "--nodes=1", "-w", "h100-01")

    assert len(job.ran) == 3
    assert out.count("the step was not judged and starts") == 2
    assert "no node of the job says what GPUs it has" in out


def test_a_hook_that_breaks_or_hangs_stops_no_step(job):
    lines = (
        f"{HOOK}sed -i 's/^timeout .*/false/' .preflight/slurm/prolog\n{ONE_NODE}\n"
        f"sed -i 's/^false/timeout -k 1 1 sleep 60/' .preflight/slurm/prolog\n{ONE_NODE}\n"
        f"rm .preflight/slurm/prolog\n{ONE_NODE}"
    )
    job.run(SMALL, lines, "--nodes=1", "-w", "h100-01")

    assert len(job.ran) == 3


def test_prologs_of_a_users_own_run_as_they_would_have(job):
    job.program("own-prolog", "#!/bin/sh\necho own prolog: $1 >&2\n")
    job.program("own-task", "#!/bin/sh\necho export FROM_TASK_PROLOG=yes\n")
    job.program("accelerate", '#!/bin/sh\necho "$FROM_TASK_PROLOG" >>"$RAN"\n')
    own = f"export SLURM_PROLOG={job.bin}/own-prolog SLURM_TASK_PROLOG={job.bin}/own-task\n"
    out = job.run(LARGE, f"{own}{HOOK}{HOOK}{ONE_NODE}", "--nodes=1", "-w", "h100-01")

    assert job.ran == ["yes"]
    assert out.count("own prolog: accelerate") == 1


def test_check_here_in_front_of_a_launch_sees_the_gpus_of_the_job(job):
    line = TRAIN.format(ranks=2, nodes=1)
    out = job.run(
        SMALL, f"preflight check --here -- {line} || exit 78\n{line}", "--nodes=1", "-w", "h100-01"
    )

    assert job.ran == []
    assert job.facts["ExitCode"] == "78:0"
    assert "does not fit" in out and "A100-SXM4-40GB" in out


def test_run_in_a_job_script_asks_all_nodes_by_itself(job):
    lines = f"preflight run --no-rewrite -- {TWO_NODES}\necho exit=$?"
    out = job.run(SMALL, lines, "--nodes=2")

    assert job.ran == []
    assert "exit=78" in out
    assert "the nodes of the job differ" in out


def test_run_starts_what_fits_on_all_nodes_and_says_where_job_and_launch_differ(job):
    lines = f"preflight run -- {TWO_NODES}"
    out = job.run(LARGE, lines, "--nodes=2")

    assert job.ran == ["rank of h100-01", "rank of h100-02"]
    assert "preflight: fits" in out
    assert "the launch starts 1 rank on a node on which the job has 8 GPUs" in out


# What the variables of a job say


def test_the_batch_script_is_in_the_job_and_a_step_is_not():
    assert is_in_job({"SLURM_JOB_ID": "1"})
    assert not is_in_job({"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0"})
    assert not is_in_job({})
    assert num_nodes({"SLURM_NNODES": "4"}) == 4
    assert num_nodes({}) == 1


def test_what_the_job_asked_for_is_read_from_its_variables():
    options = options_of_job(
        {
            "SLURM_NNODES": "2",
            "SLURM_NTASKS_PER_NODE": "4",
            "SLURM_GPUS_ON_NODE": "8",
            "SLURM_CPUS_PER_TASK": "many",
        }
    )

    assert (options.min_nodes, options.ntasks_per_node, options.cpus_per_task) == (2, 4, None)
    assert options.num_gpus_per_node == 8
    assert options.origins["gpus_per_node"] == "$SLURM_GPUS_ON_NODE"


def test_nodes_that_say_nothing_are_named():
    gpus = tuple(NodeGpu(f"n{i}", "A100", 40 * GIB) for i in (1, 2))

    assert Allocation(gpus, ()).notes == ()
    assert Allocation(gpus, ("n3", "n4")).notes == ("the GPUs of n[3-4] are not known",)
    assert Allocation((), ("n3",)).smallest is None


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    words = (sys.executable, "-m", "preflight", "slurm", "hook", "--dir", str(tmp_path / "file/x"))
    done = subprocess.run(words, capture_output=True, text=True)

    assert done.returncode == 2 and done.stdout == ""
    assert "cannot be written" in done.stderr

"""A Slurm job and the launch inside it: memory, GPUs, tasks and nodes that do not agree, and the verdict on its nodes."""

from __future__ import annotations

import shlex

import pytest

from preflight.judge import judge_plan
from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.rewriting import read_launch
from preflight.slurm.host_memory import memory_on
from preflight.slurm.inventory import Inventory, Node, Partition, default_memory, read_inventory
from preflight.slurm.job_findings import job_findings
from preflight.slurm.judgement import judge_launch
from preflight.slurm.nodes import Fit, candidates
from preflight.slurm.options import GpuCount, submit_options
from preflight.units import GIB, MIB

TRAIN = (
    "train.py --model_name_or_path meta-llama/Llama-3.1-8B --per_device_train_batch_size 1"
    " --max_length 2048 --bf16 True --gradient_checkpointing True"
)
FSDP = (
    "accelerate launch --use_fsdp --fsdp_version 2 --fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP"
    " --num_processes {ranks} --num_machines {nodes} --machine_rank 0 --main_process_ip 10.0.0.1"
    " --main_process_port 29500"
)
SCRIPT = """\
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

config, model = TrlParser((SFTConfig, ModelConfig)).parse_args_and_config()
SFTTrainer(model=model.model_name_or_path, args=config).train()
"""

INVENTORY = Inventory(
    (
        Node("a-1", ("p",), (GpuCount("a100", 8),), ("gpu_mem:40gb",), 500 * GIB, 64),
        Node("a-2", ("p",), (GpuCount("a100", 8),), ("gpu_mem:80gb",), 1000 * GIB, 64),
        Node("v-1", ("v",), (GpuCount("v100", 8),), ("gpu_mem:16gb",), 500 * GIB, 64),
        Node("s-1", ("s",), (GpuCount("a100", 8),), (), 1000 * GIB, 64),
    ),
    {
        "p": Partition("p", is_default=True),
        "v": Partition("v"),
        "s": Partition("s", memory_per_gpu_bytes=4 * GIB),
    },
    "a test",
)


def judged(tmp_path, launch: str, *words: str, through: tuple[str, ...] = ()):
    (tmp_path / "train.py").write_text(SCRIPT)
    plugins = load_plugins(str(tmp_path))
    plan = read_launch(LaunchCommand(tuple(shlex.split(launch)), {}, str(tmp_path)), plugins)
    assert plan is not None
    options = submit_options([*words, "job.sh"], {})
    found = candidates(options, INVENTORY)
    return judge_launch(plan, options, found, INVENTORY, plugins, Policy(), through)


def findings(tmp_path, launch: str, *words: str, through: tuple[str, ...] = ()) -> list[str]:
    told = judged(tmp_path, launch, "--mem=0", *words, through=through).findings
    return [finding.id for finding in told]


def fsdp(ranks: int, nodes: int = 1) -> str:
    return f"{FSDP.format(ranks=ranks, nodes=nodes)} {TRAIN}"


def test_a_launch_is_judged_on_every_kind_of_node_that_its_job_may_get(tmp_path):
    on_two = judged(tmp_path, fsdp(2), "-N1", "--gpus-per-node=a100:2", "--mem=0")
    on_v100 = judged(tmp_path, fsdp(2), "-p", "v", "-N1", "--gpus-per-node=2", "--mem=0")

    assert [(g.nodes[0].name, fit) for g, fit in on_two.judged.fits] == [
        ("a-2", Fit.FITS),
        ("a-1", Fit.DOES_NOT_FIT),
    ]
    assert on_two.fit is Fit.MAYBE and on_two.judged.is_mixed
    group = on_two.smallest(Fit.DOES_NOT_FIT)
    assert group is not None and group.memory is not None
    at_40 = on_two.on(group.memory.low)
    assert at_40 is not None and at_40.device is not None
    assert at_40.device.capacity_bytes < 40 * GIB
    assert on_v100.fit is Fit.DOES_NOT_FIT


def test_host_memory_is_compared_with_what_the_job_asks_for(tmp_path):
    short = judged(tmp_path, fsdp(8), "-N1", "--gpus-per-node=8", "--mem=16G").findings
    default = judged(tmp_path, fsdp(8), "-p", "s", "-N1", "--gpus-per-node=8").findings
    ample = judged(tmp_path, fsdp(8), "-N1", "--gpus-per-node=8", "--mem-per-gpu=60G").findings

    assert [finding.id for finding in short] == ["PF501"]
    assert short[0].where == "--mem=16G" and "16.0 GiB" in short[0].message
    assert "DefMemPerGPU of partition s x 8 gives 32.0 GiB" in default[0].message
    assert ample == ()


@pytest.mark.parametrize(
    ("launch", "words", "wanted"),
    [
        (fsdp(8), ("-N1", "--gpus-per-node=8"), []),
        (fsdp(4), ("-N1", "--gpus-per-node=8"), ["PF522"]),
        (fsdp(4), ("-N1", "-n4", "--gpus-per-task=1"), []),
        (fsdp(8), ("-N2", "--gpus-per-node=8"), ["PF522"]),
        (f"srun -N2 --ntasks-per-node=1 {fsdp(16, 2)}", ("-N2", "--gpus-per-node=8"), []),
        (f"srun python {TRAIN}", ("-N1", "-n8", "--gres=gpu:8"), []),
        (f"srun python {TRAIN}", ("-N1", "-n2", "--gres=gpu:8"), ["PF522"]),
        (fsdp(4), ("-N1", "--exclusive"), []),
    ],
)  # fmt: skip
def test_gpus_without_a_rank_are_told(tmp_path, launch, words, wanted):
    assert findings(tmp_path, launch, *words) == wanted


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (fsdp(8), ("-N1", "--gpus-per-node=4")),
        (fsdp(8), ("-N1", "--gpus=4")),
        (f"srun {fsdp(8)}", ("-N1", "-n1", "--gpus-per-task=4")),
        (f"srun -n8 python {TRAIN}", ("-N1", "--gres=gpu:a100:4")),
    ],
)
def test_ranks_without_a_gpu_are_told(tmp_path, launch, words):
    assert findings(tmp_path, launch, *words) == ["PF119"]


@pytest.mark.parametrize(
    ("launch", "words"),
    [
        (f"srun {fsdp(32, 4)}", ("-N2", "--gpus-per-node=8")),
        (f"srun -N1 {fsdp(16, 2)}", ("-N2", "--gpus-per-node=8")),
        (fsdp(16, 2), ("-N1", "--gpus-per-node=8")),
    ],
)
def test_nodes_that_the_job_does_not_have_are_told(tmp_path, launch, words):
    assert findings(tmp_path, launch, *words) == ["PF523"]


def test_a_launcher_in_every_task_is_told(tmp_path):
    wrong = ("-N1", "--ntasks-per-node=8", "--gpus-per-node=8")

    assert findings(tmp_path, f"srun {fsdp(8)}", *wrong) == ["PF524"]
    assert findings(tmp_path, f"srun --ntasks-per-node=1 {fsdp(8)}", *wrong) == []
    assert findings(tmp_path, fsdp(8), *wrong, through=("srun", "-n8")) == ["PF524"]
    assert findings(tmp_path, fsdp(8), *wrong) == []  # in the batch step, once


def test_a_large_cluster_is_asked_once_for_its_defaults(tmp_path):
    nodes = tuple(
        Node(f"n-{i}", ("q",), (GpuCount("a100", 8),), (), (500 + i % 2) * GIB, 64)
        for i in range(2000)
    )
    asked = []

    def cluster() -> Partition:
        asked.append(1)
        return Partition("", memory_per_cpu_bytes=2 * GIB)

    (tmp_path / "train.py").write_text(SCRIPT)
    command = LaunchCommand(tuple(shlex.split(fsdp(8))), {}, str(tmp_path))
    plugins = load_plugins(str(tmp_path))
    plan = read_launch(command, plugins)
    assert plan is not None
    inventory = Inventory(nodes, {"q": Partition("q", is_default=True)}, "a test")
    options = submit_options(["-N1", "--gpus-per-node=8", "job.sh"], {})
    found = candidates(options, inventory)
    estimate = judge_plan(plan, plugins, Policy()).estimate
    told = [*job_findings(plan, estimate, options, found, inventory, cluster=cluster)]

    assert len(found.groups) == 1 and len(found.nodes) == 2000
    assert [finding.id for finding in told] == ["PF501"]
    assert "DefMemPerCPU of the cluster x 1 gives 2.0 GiB" in told[0].message
    assert len(asked) == 1


def test_where_memory_is_not_given_away_nobody_is_held_to_a_part_of_it(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    plugins = load_plugins(str(tmp_path))
    plan = read_launch(LaunchCommand(tuple(shlex.split(fsdp(8))), {}, str(tmp_path)), plugins)
    assert plan is not None
    estimate = judge_plan(plan, plugins, Policy()).estimate
    options = submit_options(["-N1", "--gpus-per-node=8", "--mem=16G", "job.sh"], {})
    found = candidates(options, INVENTORY)
    told = [
        [*job_findings(plan, estimate, options, found, INVENTORY, (), lambda limits=limits: Partition("", limits_memory=limits))]
        for limits in (True, False)
    ]  # fmt: skip

    assert [len(findings) for findings in told] == [1, 0]


@pytest.mark.parametrize(
    "words",
    [
        ("-p", "h100", "--gres=gpu:4"),
        ("-p", "h100", "--gres=gpu:4", "--mem=64G"),
        ("-p", "h100", "--gres=gpu:4", "--mem=0"),
        ("-p", "h100", "--gres=gpu:4", "--mem-per-gpu=20G"),
        ("-p", "h100", "-N1", "-n4", "-c8", "--gpus-per-task=1", "--mem-per-cpu=3G"),
        ("-p", "h100", "-N1", "--exclusive", "--gres=gpu:8", "--mem-per-cpu=3G"),
        ("-p", "l40s", "-N1", "--gres=gpu:4", "-c16"),
        ("-p", "mig", "-N1", "--gres=gpu:1g.10gb:2"),
        ("-p", "gpu", "-N1", "--gres=gpu:h100:2", "-n2", "-c4"),
        ("-p", "gpu", "-N1", "--gpus=2", "--cpus-per-gpu=8", "--mem-per-cpu=2G"),
        ("-p", "gpu", "-N1", "--gpus=h100:2", "--cpus-per-gpu=8"),
    ],
)
def test_the_memory_of_a_job_is_what_slurm_gives_it(cluster, words):
    env = cluster.environment()
    inventory = read_inventory(env)
    submitted = cluster.run("sbatch", "--parsable", *words, "--wrap", "sleep 30")
    job = submitted.stdout.strip()
    assert job, submitted.stderr
    cluster.running(job)
    facts = cluster.facts(job)
    tres = dict(word.split("=", 1) for word in facts["AllocTRES"].split(","))
    node = next(node for node in inventory.nodes if node.name == facts["NodeList"])
    options = submit_options([*words, "job.sh"], {})
    num_gpus = options.num_gpus_per_node or 0
    limit = memory_on(options, node, num_gpus, inventory, lambda: default_memory(env))

    assert limit is not None
    units = {"M": MIB, "G": GIB, "T": 1024 * GIB}
    given = float(tres["mem"][:-1]) * units[tres["mem"][-1]]
    assert limit.num_bytes == pytest.approx(given, rel=0.01)

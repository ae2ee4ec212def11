"""Envelopes of clouds and schedulers: the launch in them, its lines, and the machines that it gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight import check
from preflight.cli import main
from preflight.devices.cloud_names import flavor, named_and_counted
from preflight.launch import LaunchCommand
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.studies.launch_files import found_in
from preflight.studies.launches_behind import launches_behind
from preflight.studies.scan import scan_repository
from preflight.studies.searched_files import launch_files

TRAIN = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

(arguments,) = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()
Trainer(AutoModelForCausalLM.from_pretrained("gpt2"), arguments).train()
"""
SKY = """\
num_nodes: 2
resources:
  accelerators: {A100-80GB: 8}   # of a node
envs: {BATCH: 4}
setup: pip install -r requirements.txt
run: |
  FIRST=$(echo "$SKYPILOT_NODE_IPS" | head -n1)
  cd src
  torchrun --nnodes $SKYPILOT_NUM_NODES --nproc_per_node $SKYPILOT_NUM_GPUS_PER_NODE \\
    --node_rank $SKYPILOT_NODE_RANK --master_addr $FIRST \\
    train.py --output_dir out --per_device_train_batch_size $BATCH
"""
DSTACK = """\
type: task
nodes: 2
env:
  - BATCH=4
commands:
  - pip install accelerate
  - |
    export N=$DSTACK_GPUS_NUM
    cd src
  - accelerate launch --num_processes $N --num_machines $DSTACK_NODES_NUM --machine_rank $DSTACK_NODE_RANK
    --main_process_ip $DSTACK_MASTER_NODE_IP --main_process_port 29500
    train.py --output_dir out --per_device_train_batch_size $BATCH
resources:
  gpu: A100:80GB:8
"""
PYTORCH_JOB = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
---
apiVersion: kubeflow.org/v1
kind: PyTorchJob
spec:
  nprocPerNode: "8"
  pytorchReplicaSpecs:
    Master: &node
      replicas: 1
      template:
        spec:
          nodeSelector:
            cloud.google.com/gke-accelerator: nvidia-a100-80gb
          containers:
          - image: trainer
            workingDir: /src
            env:
            - {name: BATCH, value: "4"}
            command: [torchrun]
            args:
            - src/train.py
            - --output_dir=out
            - --per_device_train_batch_size=$(BATCH)
            resources:
              limits: {nvidia.com/gpu: 8}
    Worker:
      replicas: 1
"""
TRAIN_JOB = """\
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
spec:
  trainer:
    numNodes: 2
    command: ["bash", "-c"]
    args:
    - |
      cd src
      torchrun train.py --output_dir out --per_device_train_batch_size 4
    resourcesPerNode:
      limits: {nvidia.com/gpu: 8}
"""
JOB = """\
apiVersion: batch/v1
kind: Job
spec:
  template:
    spec:
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
            - matchExpressions:
              - {key: nvidia.com/gpu.product, operator: In, values: [NVIDIA-A100-SXM4-80GB]}
      containers:
      - image: trainer
        command: [/bin/sh, -ec, "cd src && accelerate launch train.py --output_dir out --per_device_train_batch_size 4"]
        resources:
          limits: {nvidia.com/gpu: 16}
"""
WORKFLOW = """\
on: push
env: {BATCH: "4"}
jobs:
  train:
    runs-on: [self-hosted, gpu]
    steps:
    - uses: actions/checkout@v4
    - run: |
        nvidia-smi
        torchrun --nproc_per_node 16 train.py --output_dir out --per_device_train_batch_size $BATCH
      working-directory: src
    - run: torchrun --nproc_per_node 2 ${{ inputs.script }}
"""
COMPOSE = """\
services:
  board: {image: tensorboard, command: tensorboard --logdir out}
  train:
    build: .
    environment: [BATCH=4]
    entrypoint: [bash, -c]
    command:
    - cd src && torchrun --nproc_per_node 16 train.py --output_dir out --per_device_train_batch_size $$BATCH
    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 16, capabilities: [gpu]}]}}}
"""
FILES = {
    "compose.yaml": (COMPOSE, 8, 1, None, "compose.yaml:9"),
    "task.yaml": (SKY, 9, 2, "a100-pcie-80", "task.yaml:3"),
    "task.dstack.yml": (DSTACK, 10, 2, "a100-pcie-80", "task.dstack.yml:14"),
    "pytorch.yaml": (PYTORCH_JOB, 21, 2, "a100-pcie-80", "pytorch.yaml:27"),
    "train.yaml": (TRAIN_JOB, 10, 2, None, "train.yaml:12"),
    "job.yaml": (JOB, 14, 1, "a100-sxm-80", "job.yaml:16"),
    ".github/workflows/gpu.yml": (WORKFLOW, 10, 1, None, ""),
}
"""File -> text, line of its launch, nodes, card, and where the machines stand; 16 ranks of batch 4 in each."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A repository in which every envelope has the same training."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text(TRAIN)
    for name, (text, *_) in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "config.yaml").write_text("model: gpt2\nrun_name: torchrun\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_scan_finds_the_launch_of_each_with_its_line_and_its_machines(folder):
    files = launch_files(str(folder)).paths
    found = list(scan_repository(str(folder), files, [], load_plugins(), Request()))

    launches = {one.path: one for one in reversed(found)}
    assert launches.keys() == FILES.keys()
    for name, (_, line, nodes, card, where) in FILES.items():
        report = launches[name].report
        plan, device = report.plan, report.device
        assert launches[name].where == f"{name}:{line}"
        assert (plan.world_size, plan.num_nodes, plan.micro_batch_size) == (16, nodes, 4)
        assert (device.key if device else None) == card
        assert (f"({where})" in " ".join(report.notes)) == bool(where)


def test_a_config_is_no_envelope(folder):
    assert "config.yaml" not in launch_files(str(folder)).paths


def test_what_an_expression_gives_is_not_known():
    last = list(found_in(".github/workflows/gpu.yml", WORKFLOW))[-1]

    assert (last.line, last.unknown) == (12, ("${expression}",))


def test_a_worker_is_no_first_node():
    own = PYTORCH_JOB.replace("Master: &node", "Worker: &node").replace("    Worker:\n      repl", "    Master:\n      repl")  # fmt: skip
    (worker,) = found_in("job.yaml", own)

    assert (worker.env["PET_NODE_RANK"], worker.env["PET_NNODES"]) == ("1", "2")


@pytest.mark.parametrize("choice", ["{A100: 8, H100: 8}", "[A100-80GB:8, H100:8]", "H100:0.5"])
def test_one_of_several_cards_is_none(choice):
    (found,) = found_in("task.yaml", SKY.replace("{A100-80GB: 8}", choice))

    assert found.job is not None and found.job.device is None
    assert (found.job.gpus_per_node == 8) == ("8" in choice)


ALIKE = """\
resources:
  KEY:
  - {accelerators: "H100:8", infra: aws}
  - {accelerators: OTHER, infra: gcp}
run: torchrun --nproc_per_node $SKYPILOT_NUM_GPUS_PER_NODE train.py
"""


@pytest.mark.parametrize("key", ["any_of", "ordered"])
def test_clouds_to_choose_from_that_have_the_same_cards_have_them(key):
    (same,) = found_in("task.yaml", ALIKE.replace("KEY", key).replace("OTHER", "H100:8"))
    (other,) = found_in("task.yaml", ALIKE.replace("KEY", key).replace("OTHER", "A100:4"))

    assert (same.argv[2], same.job.device) == ("8", "h100-sxm-80")
    assert (other.unknown, other.job.device) == (("$SKYPILOT_NUM_GPUS_PER_NODE",), None)


def test_the_script_of_a_template_of_argo_is_read_where_a_shell_runs_it():
    script = """\
apiVersion: argoproj.io/v1alpha1
kind: Workflow
spec:
  templates:
  - script:
      image: trainer
      command: [SHELL]
      source: |
        cd src
        torchrun --nproc_per_node 4 train.py
      resources: {limits: {nvidia.com/gpu: 4}}
"""
    (found,) = found_in("flow.yaml", script.replace("SHELL", "bash"))

    assert (found.line, found.argv[:3]) == (10, ("torchrun", "--nproc_per_node", "4"))
    assert (found.job.gpus_per_node, found.job.where) == (4, "flow.yaml:11")
    assert list(found_in("flow.yaml", script.replace("SHELL", "python"))) == []


def test_what_make_fills_in_by_itself_is_not_known():
    (found,) = found_in("Makefile", "%.run:\n\ttorchrun train.py --output_dir $* --run_name $@\n")

    assert found.argv[2:5:2] == ("--output_dir", "--run_name")
    assert found.unknown


def test_a_file_without_a_launch_is_said_to_have_none(folder, capsys):
    (folder / "pod.yaml").write_text(JOB.replace("accelerate launch train.py", "vllm serve"))

    for command in ("kubectl apply -f pod.yaml", "make lint", "docker compose up board"):
        main(["check", "--device", "h100-sxm-80", "--", *command.split()])
        assert "no launch that trains was found in what" in capsys.readouterr().out


def test_the_programs_of_prime_rl_are_found_by_the_file_that_they_are_given():
    text = "uv run sft @ sft.toml\nrl @home is nice\nuv run rl @ rl.toml --max-steps 3\n"

    assert [found.line for found in found_in("job.sh", text)] == [1, 3]


def test_a_template_of_another_language_is_left_alone():
    assert not list(found_in("job.yaml", "{{- if .Values.on }}\n" + JOB + "{{- end }}\n"))


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("A100", ("a100-sxm-40", 1)),
        ("A100-80GB:8", ("a100-pcie-80", 8)),
        ("H100:4", ("h100-sxm-80", 4)),
        ("nvidia:80GB:2", (None, 2)),
        ("H100:1..8", (None, None)),
        ("V100:32GB:4", ("v100-sxm-32", 4)),
    ],
)
def test_a_card_and_its_count_stand_in_one_word(word, answer):
    assert named_and_counted(word) == answer


def test_every_flavor_of_the_hub_with_a_card_that_is_known_has_it():
    """Asks the client's own list: a flavor that it learns is a card, or none that anybody prices here."""
    import huggingface_hub as hub

    flavors = [one.value for one in hub.SpaceHardware]
    unknown = [one for one in flavors if flavor(one)[0] is None and not one.startswith("cpu")]

    assert flavor("l40sx8") == ("l40s-48", 8)
    assert flavor("a10g-largex4") == ("a10g-24", 4)
    assert flavor("a100-large") == ("a100-sxm-80", 1)
    assert all(one.startswith(("rtx-pro", "inf", "v5e", "sprx", "zero")) for one in unknown)


@pytest.mark.parametrize(
    ("command", "ranks", "card"),
    [
        ("ray job submit --working-dir src -- torchrun --nproc_per_node 8 train.py", 8, None),
        ("hf jobs run --flavor l40sx4 -e A=b image accelerate launch src/train.py", 4, "l40s-48"),
        ("hf jobs uv run --flavor a100-large --with trl src/train.py", 1, "a100-sxm-80"),
    ],
)
def test_a_launch_that_is_started_elsewhere_is_read_through(folder, command, ranks, card):
    words = [*command.split(), "--output_dir", "out"]
    report = check(words, cwd=folder, env={"CUDA_VISIBLE_DEVICES": "0,1"})

    assert report.plan.world_size == ranks
    assert (report.device.key if report.device else None) == card


@pytest.mark.parametrize(
    ("command", "ranks", "nodes"),
    [
        ("sky launch task.yaml", 16, 2),
        ("sky launch --num-nodes 4 -y task.yaml", 32, 4),
        ("sky jobs launch task.yaml --num-nodes=1 --gpus=H100:4", 4, 1),
        ("docker compose up", 16, 1),
        ("docker compose -f compose.yaml up -d train", 16, 1),
    ],
)
def test_an_option_beats_what_the_file_says(folder, command, ranks, nodes):
    (launch,) = launches_behind(LaunchCommand(tuple(command.split()), cwd=str(folder))).launches

    plan = check(list(launch.argv), env=dict(launch.env), cwd=str(folder / "src")).plan
    assert (plan.world_size, launch.job.num_nodes or 1) == (ranks, nodes)


@pytest.mark.parametrize(
    "command",
    [
        "sky launch --env BATCH=8 task.yaml",
        "docker compose up board",
        "docker compose -f a.yaml -f b.yaml up",
    ],
)
def test_what_no_reader_knows_is_not_read_as_the_file_alone(folder, command):
    behind = launches_behind(LaunchCommand(tuple(command.split()), cwd=str(folder)))

    assert behind is None or not behind.launches


def test_folders_that_are_hidden_stay_so_but_that_of_workflows(tmp_path):
    for name in (".github/workflows/a.yml", ".venv/b.sh"):
        path = Path(tmp_path, name)
        path.parent.mkdir(parents=True)
        path.write_text(WORKFLOW)

    assert launch_files(str(tmp_path)).paths == (".github/workflows/a.yml",)

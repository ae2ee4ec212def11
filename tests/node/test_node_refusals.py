"""What checks of the node foretell, from the libraries themselves: real launchers, checkpoints and caches on the CPU."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.formulas.checkpoint_bytes import checkpoint_bytes
from preflight.launch import Adapter, LaunchCommand, LaunchPlan
from preflight.models import describe
from preflight.models.hub_cache import find_snapshot, has_token, missing_weights
from preflight.node.checks import packages
from preflight.node.checks.resume import read_checkpoint
from preflight.node.limits import num_cpus
from preflight.request import Request, with_request
from preflight.rewriting import read_launch

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
EXPERIMENTS = HERE / "node_refusals.py"
CONFIG = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 512,
}
MODEL = describe(CONFIG, "tiny", "test")


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "SLURM"))}
    return {
        **kept,
        "PATH": f"{BIN}:{kept['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "DS_ACCELERATOR": "cpu",
        "CUDA_VISIBLE_DEVICES": "",
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        **more,
    }


def run(*words: str, env: dict[str, str] | None = None, cwd: Path | None = None):
    return subprocess.run(
        words, env=env or environment(), cwd=cwd, capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hf_home")


@pytest.fixture(scope="module")
def said(tmp_path_factory, home):
    """Every experiment of one process."""
    folder = tmp_path_factory.mktemp("experiments")
    done = run(sys.executable, str(EXPERIMENTS), str(folder), env=environment(HF_HOME=str(home)))
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((folder / "found.json").read_text())


def planned(plugins, words: str, env: dict[str, str], cwd: Path) -> LaunchPlan:
    plan = read_launch(LaunchCommand(tuple(words.split()), env, str(cwd)), plugins)
    return with_request(plan, Request(on_this_node=True))


@pytest.mark.parametrize(
    ("name", "adapter"), [("full", None), ("lora", Adapter(rank=8, targets="all-linear"))]
)
def test_a_checkpoint_takes_the_bytes_that_are_told(said, name, adapter):
    """Weights exactly but for the file's header; AdamW's states within a percent, LoRA's without their names."""
    weights, states = said["checkpoint_sizes"][name]
    told = checkpoint_bytes(LaunchPlan(load_dtype="fp32", adapter=adapter), MODEL, False)
    header = 8 * 1024

    assert 0 <= weights - told.weights < header
    # a torch file has a name and a rounding per tensor: two states of 18 tensors, or of 28
    assert 0 <= states - told.states < 56 * 1024


def test_checkpoints_of_an_older_run_are_deleted(said):
    """Two of 500 and 1000 steps were there, and a limit of two keeps the last two of three new ones."""
    assert said["rotation"] == ["checkpoint-2", "checkpoint-3"]


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("operator_without_ninja", "Unable to JIT load the cpu_adam op due to ninja not being"),
        ("operator_without_cuda", "MissingCUDAException: CUDA_HOME does not exist"),
    ],
)
def test_deepspeed_cannot_build_without_its_tools(said, experiment, words):
    assert words in said[experiment]


@pytest.mark.parametrize(
    ("torch", "files", "env", "expected"),
    [
        ("2.9.0", ("ninja", "c++"), {}, "$CUDA_HOME"),
        ("2.9.0", ("ninja", "c++"), {"CUDA_HOME": "/opt/cuda"}, None),
        ("2.9.0", ("c++",), {"CUDA_HOME": "/opt/cuda"}, "$PATH"),
        ("2.9.0+cpu", ("ninja", "c++"), {}, None),
        ("2.9.0+cpu", ("ninja",), {}, "$PATH"),
        ("2.9.0", ("prebuilt",), {}, None),
        ("2.9.0", ("no offload",), {}, None),
    ],
)
def test_the_tools_that_an_operator_needs_are_looked_for(
    plugins, tmp_path, torch, files, env, expected
):
    """An environment with nothing but what is named."""
    site = installed(tmp_path, {"torch": torch, "deepspeed": "0.19.8"})
    for name in ("ninja", "c++"):
        if name in files:
            (tmp_path / "env/bin" / name).write_text("#!/bin/sh\n")
            (tmp_path / "env/bin" / name).chmod(0o755)
    if "prebuilt" in files:
        built = site / "deepspeed/ops/adam/cpu_adam_op.cpython-311-x86_64-linux-gnu.so"
        built.parent.mkdir(parents=True)
        built.write_text("")
    offload = '"offload_optimizer": {"device": "cpu"}' if "no offload" not in files else ""
    stage = f'"stage": 2{"," if offload else ""} {offload}'
    (tmp_path / "ds.json").write_text(f'{{"zero_optimization": {{{stage}}}}}')
    (tmp_path / "train.py").write_text("import argparse\n")
    path = {"PATH": str(tmp_path / "env/bin"), **env}
    words = "deepspeed --num_gpus 2 train.py --deepspeed_config ds.json"
    found = list(packages.findings(planned(plugins, words, path, tmp_path), str(tmp_path)))

    assert [(f.id, f.where) for f in found] == ([("PF509", expected)] if expected else [])


def installed(folder: Path, versions: dict[str, str]) -> Path:
    """Make an environment with a torchrun and the metadata of some packages; return its site-packages."""
    site = folder / "env/lib/python3.11/site-packages"
    for name, version in versions.items():
        (site / f"{name}-{version}.dist-info").mkdir(parents=True)
    (folder / "env/bin").mkdir()
    for name in ("torchrun", "deepspeed"):
        (folder / "env/bin" / name).write_text(f"#!{folder}/env/bin/python3\n")
        (folder / "env/bin" / name).chmod(0o755)
    (folder / "env/bin/python3").write_text("")
    return site


@pytest.fixture(scope="module")
def without_deepspeed(tmp_path_factory) -> Path:
    """All packages of this environment but one."""
    import torch

    folder = tmp_path_factory.mktemp("site")
    for entry in Path(torch.__file__).parent.parent.iterdir():
        if not entry.name.startswith("deepspeed"):
            (folder / entry.name).symlink_to(entry)
    return folder


def test_a_missing_package_stops_the_worker(plugins, tmp_path, without_deepspeed):
    """accelerate's own words in an environment that has all but DeepSpeed."""
    code = "from accelerate import *; Accelerator(deepspeed_plugin=DeepSpeedPlugin())"
    env = environment(PYTHONPATH=str(without_deepspeed))
    done = run(sys.executable, "-S", "-c", code, env=env)
    assert done.returncode == 1
    assert "ImportError: DeepSpeed is not installed" in done.stderr

    installed(tmp_path, {"torch": "2.13.0", "transformers": "5.24.0", "accelerate": "1.15.0"})
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 2}}')
    (tmp_path / "train.py").write_text(
        "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
    )
    path = {"PATH": str(tmp_path / "env/bin")}
    words = "torchrun train.py --deepspeed ds.json"
    found = list(packages.findings(planned(plugins, words, path, tmp_path), str(tmp_path)))
    assert [(f.id, f.message.split()[0]) for f in found] == [("PF508", "deepspeed")]


def test_what_is_installed_here_is_not_called_missing(plugins, tmp_path):
    (tmp_path / "ds.json").write_text('{"zero_optimization": {"stage": 2}}')
    (tmp_path / "train.py").write_text(
        "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
    )
    words = f"{BIN}/torchrun train.py --deepspeed ds.json"

    assert list(packages.findings(planned(plugins, words, environment(), tmp_path))) == []


def test_gloo_refuses_an_interface_that_is_not_there(said, plugins, tmp_path):
    from preflight.node.checks import network

    assert "Unable to find address for: nosuch0" in said["interface_not_there"]
    (tmp_path / "train.py").write_text("")
    words = "torchrun --nproc-per-node 2 train.py"
    for name, expected in (("nosuch0", ["PF515"]), ("lo", [])):
        plan = planned(plugins, words, {"GLOO_SOCKET_IFNAME": name}, tmp_path)
        assert [f.id for f in network.findings(plan)] == expected


def test_offline_without_a_snapshot_transformers_refuses(said, home):
    assert "couldn't find them in the cached files" in said["offline"]
    assert "does not appear to have files named" in said["offline_without_a_shard"]
    env = {"HF_HOME": str(home)}
    assert find_snapshot("nobody/nothing", env) is None
    snapshot = find_snapshot("some/sharded", env)
    assert snapshot is not None
    assert len(missing_weights(snapshot)) == 2


def test_a_token_is_found_where_the_hub_library_finds_it(said, home):
    """Nowhere, in the file, in the variable."""
    assert said["token"] == [None, "hf_file", "hf_env"]
    env = {"HF_HOME": str(home)}
    assert not has_token(env)
    assert has_token({**env, "HUGGING_FACE_HUB_TOKEN": "hf_env"})
    (home / "token").write_text("hf_file\n")
    assert has_token(env)


def test_torch_counts_the_same_cpus_for_loader_workers(said):
    (words,) = said["loader_workers"]

    assert f"suggested max number of worker in current system is {num_cpus()}," in words


def test_a_missing_data_file_stops_datasets(said):
    assert said["data_file_not_there"].startswith("FileNotFoundError: Unable to find")


def test_a_checkpoint_of_another_engine_stops_the_trainer(said):
    written, empty = said["fsdp_checkpoint"]

    assert "is only supported when using PyTorch FSDP" in written
    assert "Can't find a valid checkpoint at" in empty


def test_a_checkpoint_of_two_ranks_does_not_go_on_with_one(tmp_path, ranks):
    """DeepSpeed's own words; the names that it wrote tell the two ranks, and the bytes are those that are told."""
    folder = tmp_path / "checkpoint"
    ranks.printed(EXPERIMENTS, "save", str(folder), world=2)
    written = read_checkpoint(str(folder))
    assert (written.num_zero_ranks, written.is_universal) == (2, False)
    loaded = ranks.printed(EXPERIMENTS, "load", str(folder), world=1)
    assert "used a DP world size of 2 but the current world size is 1" in loaded

    plan = LaunchPlan(
        engine="zero2", world_size=2, shard_degree=2, mixed_precision="bf16", load_dtype="bf16"
    )
    told = checkpoint_bytes(plan, MODEL, False)
    on_disk = sum(file.stat().st_size for file in folder.rglob("*.pt"))
    assert on_disk == pytest.approx(told.states, rel=0.02)  # without Trainer's own weights


def test_a_taken_port_stops_the_launchers(tmp_path):
    (tmp_path / "train.py").write_text("")
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = str(listener.getsockname()[1])
        words = ("--nproc-per-node", "2", "--master-port", port, "--no-python", "true")
        done = run("torchrun", *words)
        assert done.returncode != 0
        assert "EADDRINUSE" in done.stderr
        nodes = ("--multi_gpu", "--num_machines", "2", "--machine_rank", "0")
        meet = ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
        launch = ("accelerate", "launch", *nodes, *meet, "--num_processes", "2", "train.py")
        done = run(*launch, cwd=tmp_path)
        assert done.returncode != 0
        assert "Tried to launch distributed communication on port" in done.stderr


def test_torchrun_gives_each_of_several_ranks_one_thread(plugins, tmp_path):
    env = environment()
    del env["OMP_NUM_THREADS"]
    words = ("--nproc-per-node", "2", "--no-python", "printenv", "OMP_NUM_THREADS")
    assert run("torchrun", *words, env=env).stdout.split() == ["1", "1"]

    offload = '{"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}}}'
    (tmp_path / "ds.json").write_text(offload)
    (tmp_path / "train.py").write_text(
        "from transformers import HfArgumentParser, Trainer, TrainingArguments\n"
    )
    launch = "torchrun --nproc-per-node {} train.py --deepspeed ds.json"
    for ranks, variables, expected in (
        (2, {}, ["PF137"]),
        (1, {}, []),
        (2, {"OMP_NUM_THREADS": "8"}, []),
    ):
        plan = planned(plugins, launch.format(ranks), variables, tmp_path)
        asked = {"plan": plan, "model": None, "device": None}
        found = [f.id for _, f in plugins.collect("preflight_findings", **asked)]
        assert [id for id in found if id == "PF137"] == expected

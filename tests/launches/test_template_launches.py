"""Every launch template is started for real: its ranks meet, train, and get what preflight reads in it."""

from __future__ import annotations

import json
import math
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from agreement import differences
from checked_launch import ROOMY_DEVICE
from harness import BIN, Launched, Workplace, environment, launch
from template_place import QUICK, make_place, save_model, save_rows, saved_tensors

from preflight.studies.template_files import template_text

pytestmark = pytest.mark.launch
LINEARS_PER_LAYER = 7
"""Of a Llama: q, k, v, o, gate, up and down."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(folder)
    return folder


def check(place: Workplace, argv: list[str]) -> dict[str, Any]:
    """Return the report of a launch in a place."""
    done = subprocess.run(
        [BIN / "preflight", "check", "--format", "json", "--device", ROOMY_DEVICE, "--", *argv],
        cwd=place.path,
        env=environment(place.path / "unused", "check", is_probed=False),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def assert_trained(launched: Launched, report: dict[str, Any], place: Workplace) -> None:
    """Every rank trained, and got the plan; what it learned is in a file that from_pretrained reads."""
    plan = dict(report["plan"])
    assert launched.exit_code == 0, launched.stderr[-4000:]
    if plan["adapter"] is not None:
        assert plan["adapter"]["targets"] == "all-linear"
        plan["adapter"] = {**plan["adapter"], "targets": None}
        assert len(launched.plan_seen["adapter"]["targets"]) == 2 * LINEARS_PER_LAYER
    assert differences(plan, launched) == []
    assert all(math.isfinite(loss) for rank in launched.ranks for loss in rank["losses"])
    assert "trained: loss" in launched.stdout
    saved = saved_tensors(place.path / "out")
    assert all(saved.values()), "a tensor is all zeros: an adapter starts so"
    if plan["adapter"] is not None:
        assert len(saved) == 2 * 2 * LINEARS_PER_LAYER
    else:
        assert saved.keys() == saved_tensors(place.path / "tiny").keys()


@pytest.mark.parametrize(
    ("config", "arguments", "flags"),
    [
        ("zero2", "lora", ""),
        ("hsdp", "lora", "--num_processes 4 --num_machines 1 --parallelism_config_dp_shard_size 2"),
    ],
)
def test_an_accelerate_template_trains(config, arguments, flags, model, tmp_path, forked):
    files = {
        "accelerate.yaml": f"accelerate/{config}.yaml",
        "training.yaml": f"training/{arguments}.yaml",
        "train.py": "training/train.py",
    }
    place = make_place(tmp_path / "place", model, files)
    head = ["accelerate", "launch", "--config_file", "accelerate.yaml", "--main_process_port", "0"]
    argv = [*head, *flags.split(), "train.py", "--config", "training.yaml", *QUICK]
    report = check(place, argv)
    launched = launch(argv, place, tmp_path / "probe", variables=forked)

    assert_trained(launched, report, place)
    assert report["plan"]["replicate_degree"] == (2 if config == "hsdp" else 1)


def test_context_parallelism_comes_as_far_as_torch_can_split_attention(model, tmp_path, forked):
    """The ranks meet, and shard, and split the sequence: what torch lacks is a split kernel for the CPU."""
    files = {
        "accelerate.yaml": "accelerate/context-parallel.yaml",
        "training.yaml": "training/full.yaml",
        "train.py": "training/train.py",
    }
    place = make_place(tmp_path / "place", model, files)
    head = ["accelerate", "launch", "--config_file", "accelerate.yaml", "--main_process_port", "0"]
    size = ["--parallelism_config_dp_shard_size", "1"]
    argv = [*head, *size, "train.py", "--config", "training.yaml", *QUICK]
    report = check(place, argv)
    launched = launch(argv, place, tmp_path / "probe", variables=forked)

    assert report["plan"]["context_parallel_degree"] == report["plan"]["shard_degree"] == 2
    assert launched.exit_code != 0
    assert (
        "aten._scaled_dot_product_flash_attention_for_cpu.default does not have a sharding strategy"
        in launched.stderr
    )


def test_the_deepspeed_file_trains_under_torchrun(model, tmp_path, forked):
    files = {
        "zero2.json": "deepspeed/zero2.json",
        "training.yaml": "training/full.yaml",
        "train.py": "training/train.py",
    }
    place = make_place(tmp_path / "place", model, files)
    argv = ["torchrun", "--standalone", "--nproc_per_node", "2", "train.py"]
    argv += ["--config", "training.yaml", "--deepspeed", "zero2.json", *QUICK]
    report = check(place, argv)

    assert_trained(launch(argv, place, tmp_path / "probe", variables=forked), report, place)


@pytest.mark.parametrize(
    ("number", "words", "engine"),
    [(2, "--method qlora --engine fsdp2", "fsdp2"), (2, "--method full", "ddp"), (1, "", "single")],
)
def test_what_init_writes_starts_with_its_launch_script(
    number, words, engine, model, tmp_path, forked
):
    place = Workplace(tmp_path / "place")
    place.path.mkdir()
    (place.path / "tiny").symlink_to(model)
    save_rows(place.path / "rows")
    asked = ["--model", "tiny", "--gpu", ROOMY_DEVICE, "--num-gpus", str(number)]
    more = ["--seq-len", "64", "--global-batch-size", str(4 * number), "--format", "json"]
    written = subprocess.run(
        [BIN / "preflight", "init", *asked, *more, *words.split()],
        cwd=place.path,
        env=environment(tmp_path / "unused", "init", is_probed=False),
        capture_output=True,
        text=True,
    )
    assert written.returncode == 0, written.stdout + written.stderr
    told = json.loads(written.stdout)
    quick = ["--dataset_name", "rows", "--max_steps", "2"]
    shown = {"PREFLIGHT_TEST_HIDDEN": ""} if "qlora" in words else {}  # it needs bitsandbytes
    variables = {**forked, **shown}
    launched = launch(["./launch.sh", *quick], place, tmp_path / "probe", variables=variables)

    assert told["report"]["plan"]["engine"] == engine
    assert_trained(launched, told["report"], place)
    assert launched.stderr.startswith("preflight: fits")


def pods_commands() -> list[str]:
    spec = yaml.safe_load(template_text("kubernetes/job.yaml"))["spec"]["template"]["spec"]
    assert [one["name"] for one in (*spec["initContainers"], *spec["containers"])] == [
        "preflight",
        "train",
    ]
    for one in (*spec["initContainers"], *spec["containers"]):
        assert one["command"] == ["bash", "-euc"]
        assert {mount["name"] for mount in one["volumeMounts"]} == {
            volume["name"] for volume in spec["volumes"]
        }
        writable = {
            mount["mountPath"] for mount in one["volumeMounts"] if not mount.get("readOnly")
        }
        assert writable == {"/out", "/dev/shm"}  # a ConfigMap is not
        assert "--output_dir /out" in one["args"][0]
    return [one["args"][0] for one in (*spec["initContainers"], *spec["containers"])]


def test_the_commands_of_the_pod_and_of_the_task_check_and_train(model, tmp_path, forked):
    """The pod's check, then the task's setup and run; what they install is here already."""
    files = {
        "accelerate.yaml": "accelerate/zero3.yaml",
        "training.yaml": "training/full.yaml",
        "train.py": "training/train.py",
    }
    place = make_place(tmp_path / "place", model, files)
    (tmp_path / "bin").mkdir()
    pip = tmp_path / "bin" / "pip"
    pip.write_text('#!/bin/bash\necho "pip $*" >> "$PIP_LOG"\n')
    pip.chmod(0o755)
    task = yaml.safe_load(template_text("skypilot/task.yaml"))
    pod_check, pod_train = (text.replace("/out", "out") for text in pods_commands())
    quick = shlex.join(QUICK)

    def in_bash(text: str) -> list[str]:
        text = text.replace("h100-sxm-80", ROOMY_DEVICE)
        text = text.replace("preflight run --", f"preflight run --device {ROOMY_DEVICE} --")
        return ["bash", "-euc", text.replace("--config training.yaml", f"--config training.yaml {quick}")]  # fmt: skip

    variables = {
        **forked,
        "PATH": os.pathsep.join([str(tmp_path / "bin"), str(BIN), os.environ["PATH"]]),
        "PIP_LOG": str(tmp_path / "pip.log"),
    }
    checks = [
        launch(in_bash(text), place, tmp_path / f"check-{number}", variables=variables)
        for number, text in enumerate((pod_check, task["setup"]))
    ]
    trained = launch(in_bash(task["run"]), place, tmp_path / "probe", variables=variables)
    command = pod_train.removesuffix(" --output_dir out").split()

    assert pod_train.endswith(" --output_dir out")
    assert [done.exit_code for done in checks] == [0, 0]
    assert all(done.stdout.startswith("preflight: fits") for done in checks)
    assert (tmp_path / "pip.log").read_text().count("launch-preflight") == 2
    assert command == task["run"].strip().splitlines()[-1].partition(" -- ")[2].split()
    assert_trained(trained, check(place, [*command, *QUICK]), place)

"""The Slurm templates are submitted to a real cluster: judged, started on two nodes, and trained there."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from cluster import Cluster

LAUNCHES = Path(__file__).parents[1] / "launches"
sys.path.append(str(LAUNCHES))

from harness import BIN, environment  # noqa: E402
from template_place import QUICK, make_place, save_model  # noqa: E402

SCONTROL = """\
#!/bin/bash
# Names of the emulated nodes do not resolve: for a rendezvous all of them are this host.
if [ "$1 $2" = "show hostnames" ]; then echo 127.0.0.1; else exec {real} "$@"; fi
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_model(folder)
    return folder


def submitted(cluster: Cluster, folder: Path, words: list[str], probe: Path) -> str:
    """Submit a job with its ranks on the CPU; return its number."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    real = shutil.which("scontrol", path=cluster.path)
    (bin_folder / "scontrol").write_text(SCONTROL.format(real=real))
    (bin_folder / "scontrol").chmod(0o755)
    probe.mkdir()
    env = environment(probe, "job")
    env["PATH"] = f"{bin_folder}:{BIN}:{cluster.path}"
    done = cluster.run("preflight", "sbatch", "--parsable", *words, cwd=folder, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("preflight: fits. Peak "), done.stderr
    return done.stdout.strip()


def with_quick_steps(path: Path) -> None:
    """Add the tiny model and two steps to a job's own arguments."""
    path.write_text(re.sub(r'(TRAIN="[^"]*)"', rf'\1 {" ".join(QUICK)}"', path.read_text()))


@pytest.mark.launch
@pytest.mark.parametrize(
    ("job", "engine", "files"),
    [
        ("accelerate", "fsdp2", {"accelerate.yaml": "accelerate/fsdp2.yaml"}),
        ("torchrun", "zero3", {"zero3.json": "deepspeed/zero3.json"}),
    ],
)
def test_a_job_on_two_nodes_is_judged_and_trains(job, engine, files, cluster, model, tmp_path):
    place = make_place(
        tmp_path / "place",
        model,
        {
            **files,
            "job.sbatch": f"slurm/{job}.sbatch",
            "training.yaml": "training/full.yaml",
            "train.py": "training/train.py",
        },
    )
    with_quick_steps(place.path / "job.sbatch")
    small = ["-p", "h100", "--gpus-per-node=1", "--cpus-per-task=1", "--mem=1000"]
    number = submitted(cluster, place.path, [*small, "job.sbatch"], tmp_path / "probe")
    facts = cluster.finished(number, timeout_s=300)
    output = (place.path / f"train-{number}.out").read_text()

    assert facts["JobState"] == "COMPLETED", output[-4000:]
    assert facts["NumNodes"] == "2"
    assert output.startswith("preflight: fits. Peak ")
    assert "trained: loss" in output
    assert [rank["plan"]["engine"] for rank in ranks(tmp_path / "probe")] == [engine] * 2
    assert [rank["plan"]["shard_degree"] for rank in ranks(tmp_path / "probe")] == [2, 2]


def ranks(probe: Path) -> list[dict[str, dict[str, object]]]:
    return [json.loads(path.read_text()) for path in sorted(probe.glob("rank-*.json"))]


def test_the_job_on_one_node_is_judged_and_guarded(cluster, model, tmp_path):
    """What cannot fit is not submitted; in the job itself, the check ends it with 78 before a rank starts."""
    place = make_place(
        tmp_path / "place",
        model,
        {
            "accelerate.yaml": "accelerate/ddp.yaml",
            "job.sbatch": "slurm/one-node.sbatch",
            "training.yaml": "training/full.yaml",
            "train.py": "training/train.py",
        },
    )
    arguments = place.path / "training.yaml"
    arguments.write_text(arguments.read_text().replace("Llama-3.1-8B", "Llama-3.1-405B"))
    env = {"PATH": f"{BIN}:{cluster.path}"}
    refused = cluster.run(
        "preflight", "sbatch", "-p", "h100", "job.sbatch", cwd=place.path, env=env
    )
    small = ["--gpus-per-node=2", "--cpus-per-task=1", "--mem=1000", "--parsable"]
    done = cluster.run("sbatch", "-p", "h100", *small, "job.sbatch", cwd=place.path, env=env)
    facts = cluster.finished(done.stdout.strip(), timeout_s=120)
    output = (place.path / f"train-{done.stdout.strip()}.out").read_text()

    assert refused.returncode == 78, refused.stderr
    assert "does not fit on any node that the job may get" in refused.stderr
    assert facts["ExitCode"] == "78:0", output
    assert "does not fit" in output.splitlines()[0]

"""The test cluster is a real Slurm: it gives GPUs of the asked type away, and leaves no process behind."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster import START_S, Cluster
from cluster_nodes import MACHINES, NODE_NAMES

START_AND_WAIT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cluster import START_S, Cluster
running = Cluster(Path(sys.argv[2]))
running.start()
running.run("sbatch", "--partition=h100", "--wrap", "sleep 1000")
print("up", flush=True)
time.sleep(1000)
"""


def processes_of(root: Path) -> list[str]:
    """Return the command lines of every process that has to do with a cluster's folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(root).encode() in words:
            found.append((entry / "comm").read_text().strip())
    return found


def test_every_node_has_the_gpus_that_it_was_given(cluster):
    text = cluster.output("scontrol", "show", "node", "--json")
    gres = {node["name"]: node["gres"] for node in json.loads(text)["nodes"]}
    wanted = {
        name: ",".join(f"gpu:{kind}:{n}" if kind else f"gpu:{n}" for kind, n in machine.gpus)
        for machine in MACHINES
        for name in machine.names
    }

    assert gres == wanted


def test_a_job_sees_the_gpus_of_its_allocation_on_every_node(cluster, tmp_path):
    out = tmp_path / "out"
    step = 'srun bash -c "echo \\$SLURMD_NODENAME \\$SLURM_GPUS_ON_NODE \\$CUDA_VISIBLE_DEVICES"'
    asked = ("--partition=a100", "--nodes=2", "--gpus-per-node=a100:4", f"--output={out}")
    job = cluster.run("sbatch", "--parsable", *asked, "--wrap", step)
    ended = cluster.finished(job.stdout.strip())

    assert ended["JobState"] == "COMPLETED", job.stderr
    assert sorted(out.read_text().split("\n"))[1:] == ["a100-01 4 0,1,2,3", "a100-02 4 0,1,2,3"]


def test_a_type_that_no_node_has_is_refused(cluster):
    refused = cluster.run("sbatch", "--gres=gpu:b200:8", "--wrap", "true")

    assert refused.returncode != 0


def test_the_daemons_listen_on_loopback_only(cluster):
    listening = Path("/proc/net/tcp").read_text().split("\n")[1:-1]
    ports = {
        int(word.split("=")[1]) for word in cluster.conf.read_text().split() if "Port=" in word
    }
    hosts = {}
    for line in listening:
        local, state = line.split()[1], line.split()[3]
        host, port = local.split(":")
        if state == "0A" and int(port, 16) in ports:
            hosts[int(port, 16)] = host

    assert len(hosts) == 1 + len(NODE_NAMES)
    assert set(hosts.values()) == {"0100007F"}


def test_a_cluster_whose_tests_are_killed_leaves_no_process_behind(cluster):
    """Beside the one of the session: two clusters on one host do not disturb each other."""
    root = Path(tempfile.mkdtemp(prefix="preflight-slurm-"))
    here = str(Path(__file__).parent)
    tests = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, here, str(root)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert tests.stdout is not None and tests.stdout.readline() == "up\n"
        deadline = time.monotonic() + START_S
        while "sleep" not in (running := processes_of(root)) and time.monotonic() < deadline:
            time.sleep(0.05)
        tests.send_signal(signal.SIGKILL)
        tests.wait()
        deadline = time.monotonic() + START_S
        while (left := processes_of(root)) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        tests.kill()
        shutil.rmtree(root, ignore_errors=True)

    assert {"munged", "sleep"} <= set(running)
    assert not left


def test_a_cluster_that_does_not_come_up_says_why_and_leaves_no_process_behind(tmp_path):
    root = Path(tempfile.mkdtemp(prefix="preflight-slurm-"))
    broken = Cluster(root)
    broken.extra_lines = ("SelectType=select/of_no_kind",)
    said = ""
    try:
        broken.start()
    except Exception as error:
        said = str(error)
    finally:
        broken.stop()
        left = processes_of(root)
        shutil.rmtree(root, ignore_errors=True)

    assert "select/of_no_kind" in said
    assert not left

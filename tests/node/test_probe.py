"""`preflight probe`: what a node has, real cgroup files among it, and several nodes side by side."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.cli import main
from preflight.libraries.distributions import versions_in
from preflight.libraries.environments import interpreter_of, prefix_of, site_folders
from preflight.node import limits as node
from preflight.node.packages import PACKAGES
from preflight.node.report import describe_node, differences
from preflight.units import GIB, MIB


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # version 2, the limit on a group above the process's own
        (
            {
                "proc/self/cgroup": "0::/system.slice/slurmstepd.scope/job_7/step_0\n",
                "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/memory.max": f"{64 * GIB}\n",
                "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0/memory.max": "max\n",
            },
            64 * GIB,
        ),
        # version 2 in a container: the namespace shows its own root
        (
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{8 * GIB}\n"},
            8 * GIB,
        ),
        # version 1 in a container: the path is the host's and is not below the mount
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/73f877\n1:cpu,cpuacct:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{16 * GIB}\n",
            },
            16 * GIB,
        ),
        # version 1 without a limit
        (
            {
                "proc/self/cgroup": "4:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
        # both mounted, as systemd's hybrid mode does
        (
            {
                "proc/self/cgroup": "4:memory:/a\n0::/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": f"{4 * GIB}\n",
                "sys/fs/cgroup/unified/a/memory.max": "max\n",
            },
            4 * GIB,
        ),
        ({}, None),
    ],
)
def test_the_lowest_cgroup_limit_counts(tmp_path, files, expected):
    limit = node.cgroup_memory(write(tmp_path, files))

    assert (None if limit is None else limit.num_bytes) == expected


def test_the_cgroup_of_this_process_is_read_as_the_kernel_shows_it():
    """Whatever this machine has: a limit that is said stands in the file that is named."""
    limit = node.cgroup_memory()

    assert limit is None or int(Path(limit.said_by).read_text()) == limit.num_bytes


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"SLURM_MEM_PER_NODE": "65536"}, 64 * GIB),
        ({"SLURM_MEM_PER_CPU": "4096", "SLURM_CPUS_ON_NODE": "16"}, 64 * GIB),
        ({"SLURM_MEM_PER_GPU": "8192", "SLURM_GPUS_ON_NODE": "8"}, 64 * GIB),
        ({"SLURM_MEM_PER_CPU": "4096"}, None),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({}, None),
    ],
)
def test_memory_of_a_slurm_job_is_counted_per_node(env, expected):
    limit = node.slurm_memory(env)

    assert (None if limit is None else limit.num_bytes) == expected


def test_limits_and_cpus_are_those_of_the_kernel(tmp_path):
    """The same numbers as Python's own calls for this process; a quota of a group lowers the CPUs."""
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = resource.RLIM_INFINITY
    assert node.resource_limits() == {
        "num_open_files": None if soft == unlimited else soft,
        "memlock_bytes": None if locked == unlimited else locked,
    }
    root = write(tmp_path, {"sys/fs/cgroup/cpu.max": "50000 100000\n"})

    assert node.num_cpus(root) == 1


def test_room_is_that_of_the_nearest_folder_that_exists(tmp_path):
    space = node.space_at(str(tmp_path / "not" / "there" / "yet"))
    found = os.statvfs(tmp_path)

    assert space is not None
    assert space.path == str(tmp_path)
    assert space.total_bytes == found.f_blocks * found.f_frsize


def test_packages_are_found_without_importing_them():
    """The versions that importlib.metadata tells, and no torch in the process."""
    code = (
        "import sys, importlib.metadata as m; from preflight.libraries.distributions import versions_in; from preflight.node.packages import PACKAGES;"
        "v = versions_in(sys.path, PACKAGES); assert 'torch' not in sys.modules;"
        "assert v['torch'] == m.version('torch'), v; assert v['accelerate'] == m.version('accelerate')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


def test_the_packages_of_another_environment_are_found_by_its_launcher(tmp_path):
    """`accelerate` on PATH names its Python in its first line, and that its packages."""
    write(
        tmp_path / "env",
        {
            "pyvenv.cfg": "include-system-site-packages = false\n",
            "bin/python3": "",
            "bin/accelerate": f"#!{tmp_path}/env/bin/python3\nimport sys\n",
            "lib/python3.11/site-packages/torch-2.9.1+cu128.dist-info/METADATA": "",
            "lib/python3.11/site-packages/flash_attn-2.8.3.dist-info/METADATA": "",
        },
    )
    (tmp_path / "env/bin/accelerate").chmod(0o755)
    interpreter = interpreter_of("accelerate", f"/nowhere:{tmp_path}/env/bin")
    assert interpreter == f"{tmp_path}/env/bin/python3"
    folders = site_folders(prefix_of(interpreter))

    assert versions_in(folders, PACKAGES) == {"torch": "2.9.1+cu128", "flash_attn": "2.8.3"}
    assert site_folders(prefix_of(sys.executable)) == tuple(sys.path)


NVIDIA_SMI = """\
#!/bin/sh
case "$1" in
  --query-gpu=*) echo "NVIDIA H100 80GB HBM3, 81559, 70000, 9.0, Disabled, 551, GPU-aaaa" ;;
  --query-compute-apps=*) echo "GPU-aaaa, 4242, python, train.py, 11008" ;;
  *) echo "| NVIDIA-SMI 570.86.15    Driver Version: 570.86.15    CUDA Version: 12.8 |" ;;
esac
"""


def test_devices_come_with_their_holders_and_the_driver(tmp_path, monkeypatch):
    """The driver's program is its interface: this one answers as it does, commas in a name too."""
    program(tmp_path / "nvidia-smi", NVIDIA_SMI)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    found = describe_node(os.environ, str(tmp_path))
    (device,) = found["devices"]

    assert device["holders"] == [
        {"pid": 4242, "name": "python, train.py", "used_bytes": 11008 * MIB}
    ]
    assert (device["free_bytes"], device["compute_capability"]) == (70000 * MIB, "9.0")
    assert found["driver"] == {"version": "570.86.15", "cuda_version": "12.8"}
    assert found["visible_devices"] == "7"


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_this_machine_is_told_as_text_and_as_json(capsys, tmp_path):
    assert main(["probe", "--format", "json", "--checkpoints", str(tmp_path / "out")]) == 0
    value = json.loads(capsys.readouterr().out)
    (found,) = value["nodes"]
    assert value["schema_version"] == 1
    assert value["differences"] == {}
    assert found["host_memory"]["total_bytes"] == node.meminfo()["MemTotal"]
    assert found["disk"]["checkpoints"]["path"] == str(tmp_path)
    assert found["network"]["addresses"]["lo"][0] == "127.0.0.1"

    assert main(["probe"]) == 0
    text = capsys.readouterr().out

    assert text.startswith("preflight: ")
    assert "host memory" in text
    assert text.rstrip().splitlines()[-1].startswith("next: ")


def test_two_nodes_meet_through_torchrun(tmp_path):
    """Two agents of real torchrun on this machine; the second has another CUDA_HOME."""
    with socket_on_free_port() as port:
        pass
    base = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    base += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "-m", "preflight"]
    base += ["probe", "--gather", "--timeout", "60", "--format", "json", "--compact"]
    started = []
    for name, home in (("left", "/opt/cuda-12.8"), ("right", "/opt/cuda-12.4")):
        env = {**os.environ, "SLURMD_NODENAME": name, "CUDA_HOME": home, "OMP_NUM_THREADS": "1"}
        started.append(subprocess.Popen(base, env=env, stdout=subprocess.PIPE, text=True))
    outputs = [process.communicate(timeout=120)[0] for process in started]
    lines = [line for output in outputs for line in output.splitlines() if "schema_version" in line]
    assert len(lines) == 1, outputs
    value = json.loads(lines[0])

    assert sorted(n["host"] for n in value["nodes"]) == ["left", "right"]
    assert value["missing"] == []
    assert value["differences"]["build.cuda_home"] == {
        "/opt/cuda-12.8": ["left"],
        "/opt/cuda-12.4": ["right"],
    }


def socket_on_free_port():
    """Return a context that holds a port of this machine and gives its number."""
    import contextlib
    import socket

    @contextlib.contextmanager
    def hold():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            yield listener.getsockname()[1]

    return hold()


def test_a_node_that_comes_and_then_hangs_is_named(tmp_path):
    """Rank 1 says its name and then waits for a driver that never answers."""
    with socket_on_free_port() as port:
        pass
    program(tmp_path / "nvidia-smi", "#!/bin/sh\nexec sleep 15\n")
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    argv = [sys.executable, "-m", "preflight", "probe", "--gather", "--timeout", "3"]
    env = {**os.environ, **shared}
    first = subprocess.Popen(
        argv, env={**env, "RANK": "0", "SLURMD_NODENAME": "n0"}, stdout=subprocess.PIPE, text=True
    )
    late = {"RANK": "1", "SLURMD_NODENAME": "n1", "PATH": f"{tmp_path}:/usr/bin:/bin"}
    second = subprocess.Popen(argv, env={**env, **late}, stderr=subprocess.DEVNULL)
    output = first.communicate(timeout=60)[0]
    second.terminate()
    second.wait(timeout=30)

    assert first.returncode == 1
    assert output.startswith("preflight: 1 node answered, 1 did not")
    assert "next: n1 did not answer in time" in output


SRUN = """\
#!/bin/sh
# As srun does: the command once per node of the allocation, each with its SLURMD_NODENAME.
while [ "${1#--}" != "$1" ]; do shift; done
for name in gpu01 gpu02 gpu03; do
  if [ $name = gpu03 ]; then sleep 30 & wait; else SLURMD_NODENAME=$name "$@"; fi
done
"""


def test_nodes_of_an_allocation_are_asked_through_srun(tmp_path, monkeypatch, capsys):
    """A stand-in for srun, because Slurm is not on every machine; the third node never answers."""
    program(tmp_path / "srun", SRUN)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "gpu[01-03]")
    code = main(["probe", "--nodes", "--timeout", "5", "--format", "json"])
    value = json.loads(capsys.readouterr().out)

    assert code == 1
    assert [n["host"] for n in value["nodes"]] == ["gpu01", "gpu02"]
    assert value["missing"] == ["gpu03"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes"], "SLURM_JOB_ID is not set"),
        (["--gather"], "RANK is not set"),
        (["--nodes", "--gather"], "two ways to the same"),
        (["--timeout", "soon"], "--timeout must be a number of seconds"),
    ],
)
def test_what_cannot_be_asked_is_said(arguments, message, monkeypatch, capsys):
    for name in ("SLURM_JOB_ID", "RANK"):
        monkeypatch.delenv(name, raising=False)

    assert main(["probe", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("listed", ["n[1-99999999]", "n[1-1000][1-1000]", "n[", "n[1-1x]"])
def test_a_list_of_nodes_without_end_is_refused(listed, monkeypatch, capsys):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", listed)

    assert main(["probe", "--nodes"]) == 2
    assert "SLURM_JOB_NODELIST" in capsys.readouterr().err


def test_only_what_differs_is_marked(tmp_path):
    """Free memory may differ a little; addresses and names always do."""
    one = describe_node({}, str(tmp_path))
    two = json.loads(json.dumps(one))
    two["host"], two["network"]["addresses"] = "other", {"eth0": ["10.0.0.2"]}
    two["host_memory"]["available_bytes"] = int(one["host_memory"]["available_bytes"] * 0.97)
    assert differences([one, two]) == {}
    two["packages"]["torch"] = "2.12.0"

    assert list(differences([one, two])) == ["packages.torch"]

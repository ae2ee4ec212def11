"""What a launch is told about the node it starts on, and that it is told only there."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from preflight.commands.launch import is_for_this_node
from preflight.judge import estimate_memory
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.models import describe
from preflight.node.checks import data, disk, hub, limits, memory, network, ports, resume
from preflight.node.limits import Space, file_system_at, space_at
from preflight.request import Request, with_request
from preflight.rewriting import read_launch
from preflight.units import GIB, MIB

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "vocab_size": 32000,
}
SCRIPT = (
    "from transformers import Trainer, TrainingArguments, HfArgumentParser\n"
    "args, _ = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses(return_remaining_strings=True)\n"
)


@pytest.fixture
def read(plugins, tmp_path):
    """Read a launch of a script with transformers' arguments, as `run` or `check` would."""
    (tmp_path / "train.py").write_text(SCRIPT)

    def read(words: str, env: dict[str, str] | None = None, here: bool = True) -> LaunchPlan:
        command = LaunchCommand(tuple(words.split()), env or {}, str(tmp_path))
        plan = read_launch(command, plugins)
        return with_request(plan, Request(on_this_node=here))

    return read


def sized(num_params: int):
    """Return a model of a hundred layers with about so many parameters, a tenth of a percent off at most."""
    per_layer = num_params // 100 - 4 * 512 * 512
    more = {"num_hidden_layers": 100, "intermediate_size": per_layer // (3 * 512), "vocab_size": 32}
    return describe({**CONFIG, **more}, "sized", "test")


def ids(found):
    return [finding.id for finding in found]


def told(plugins, plan, model=None, estimate=None):
    asked = {"plan": plan, "model": model, "device": None, "estimate": estimate}
    return [finding for _, finding in plugins.collect("preflight_findings", **asked)]


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


@pytest.mark.parametrize(
    ("words", "here", "expected"),
    [
        ("torchrun train.py --train_file no.jsonl", True, True),
        ("torchrun train.py --train_file no.jsonl", False, False),
        ("env A=1 torchrun train.py --train_file no.jsonl", True, True),
        ("srun -N1 torchrun train.py --train_file no.jsonl", True, False),
        ("docker run image torchrun train.py --train_file no.jsonl", True, False),
    ],
)
def test_what_is_missing_counts_only_where_the_ranks_start(plugins, read, words, here, expected):
    found = told(plugins, read(words, here=here))

    assert ("PF519" in ids(found)) == expected


@pytest.mark.parametrize(
    ("name", "device", "here", "expected"),
    [
        ("run", None, False, True),
        ("run", "auto", False, True),
        ("run", "h100-sxm-80", False, False),
        ("run", "h100-sxm-80", True, True),
        ("check", None, False, False),
        ("check", "AUTO", False, True),
        ("check", None, True, True),
        ("fix", None, False, False),
    ],
)
def test_who_names_a_device_asks_about_another_machine(name, device, here, expected):
    assert is_for_this_node(name, device, here) == expected


def test_a_launch_that_a_node_can_start_is_told_nothing(plugins, read, tmp_path):
    """On this machine as it is, with its own disk, ports and interfaces."""
    model = describe(CONFIG, "tiny", "test")
    plan = read(
        "torchrun --nproc-per-node 1 train.py --output_dir out --per_device_train_batch_size 1"
    )

    assert ids(told(plugins, plan, model)) == []


HOST = "proc/meminfo"


@pytest.mark.parametrize(
    ("files", "env", "severity", "said_by"),
    [
        ({HOST: "MemTotal: 999999999 kB\nMemAvailable: 999999999 kB\n"}, {}, None, None),
        ({HOST: "MemTotal: 1000 kB\nMemAvailable: 1000 kB\n"}, {}, "error", "MemTotal"),
        ({HOST: "MemTotal: 999999999 kB\nMemAvailable: 900 kB\n"}, {}, "warning", "MemAvailable"),
        # enough without the allowance of 3 GiB per rank
        ({HOST: "MemTotal: 4194304 kB\n"}, {}, "warning", "MemTotal"),
        (
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1048576\n"},
            {},
            "error",
            "/sys/fs/cgroup/memory.max",
        ),
        ({}, {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "1"}, "error", "$SLURM_MEM_PER_NODE"),
        ({}, {"SLURM_MEM_PER_NODE": "1"}, None, None),
    ],
)
def test_host_memory_is_compared_with_the_lowest_limit(
    plugins, read, tmp_path, files, env, severity, said_by
):
    """Two ranks that load 34 M parameters in fp32 from bf16, and 3 GiB each beside."""
    plan = read("torchrun --nproc-per-node 2 train.py --per_device_train_batch_size 1", env)
    plan = plan.with_edits({"seq_len": 128, "load_dtype": "fp32"})
    model = describe({**CONFIG, "dtype": "bfloat16"}, "tiny", "test")
    estimate = estimate_memory(plan, model, None, plugins)

    found = list(memory.findings(plan, estimate, write(tmp_path / "root", files)))

    assert [f.severity for f in found] == ([severity] if severity else [])
    assert all(said_by in f.message for f in found)
    elsewhere = LaunchPlan(world_size=2)
    assert list(memory.findings(elsewhere, estimate, str(tmp_path / "root"))) == []


def test_behind_srun_only_the_jobs_own_limit_counts(plugins, read, tmp_path):
    env = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "1024"}
    plan = read("srun -N1 torchrun --nproc-per-node 2 train.py", env)
    model = describe(CONFIG, "tiny", "test")
    root = write(tmp_path / "root", {HOST: "MemTotal: 10 kB\n"})

    (found,) = memory.findings(plan, estimate_memory(plan, model, None, plugins), root)

    assert found.where == "$SLURM_MEM_PER_NODE"


@pytest.mark.parametrize(
    ("arguments", "fits", "severity"),
    [
        ("", 0.5, "error"),
        ("", 1.5, None),
        ("--save_total_limit 2", 2.5, "warning"),
        ("--save_total_limit 2", 3.5, None),
        ("--save_total_limit 2 --max_steps 500", 1.5, None),
        ("--max_steps 2000", 3.5, "warning"),
        ("--max_steps 2000", 4.5, None),
        ("--save_strategy no", 0.5, None),
        ("--save_only_model true", 0.5, None),
    ],
)
def test_checkpoints_are_compared_with_the_room_where_they_go(
    read, tmp_path, arguments, fits, severity
):
    """A checkpoint of fp32 weights with Adam is three times the weights; the model is sized to the disk here."""
    plan = read(f"torchrun train.py --output_dir out {arguments}").with_edits(
        {"load_dtype": "fp32"}
    )
    free = space_at(str(tmp_path)).free_bytes
    model = sized(int(free / fits / 12))

    found = list(disk.findings(plan, model))

    assert [(f.id, f.severity) for f in found] == ([("PF502", severity)] if severity else [])


def test_what_python_cannot_write_is_told(tmp_path):
    """Compared with what os.makedirs does on the same path."""
    (tmp_path / "file").write_text("")
    for name in ("file", "file/below", "new/below", "."):
        path = str(tmp_path / name)
        reason = disk.why_not_writable(path)
        try:
            os.makedirs(path, exist_ok=True)
        except OSError:
            assert reason, name
        else:
            assert not reason, name


@pytest.mark.parametrize(
    ("mounts", "kind"),
    [
        ("overlay / overlay rw 0 0\nfs:/home /data/jobs nfs4 rw 0 0\n", "nfs4"),
        ("overlay / overlay rw 0 0\n/dev/sda /data xfs rw 0 0\n", "xfs"),
        ("overlay / overlay rw 0 0\nlus /data lustre rw 0 0\nx /data/jobs2 xfs rw 0 0\n", "lustre"),
        ("", None),
    ],
)
def test_a_disk_of_one_node_is_told_by_its_file_system(read, tmp_path, mounts, kind):
    root = write(tmp_path / "root", {"proc/self/mounts": mounts})

    assert file_system_at("/data/jobs/out", root) == kind
    plan = read("torchrun --nnodes 2 --master-addr n1 train.py --output_dir /tmp/out-of-a-job")
    mounted = write(tmp_path / "mounted", {"proc/self/mounts": "x / ext4 rw 0 0\n"})
    assert ids(disk.findings(plan, None, mounted)) == ["PF521"]
    alone = read("torchrun train.py --output_dir /tmp/out-of-a-job")
    assert ids(disk.findings(alone, None, mounted)) == []


def test_the_file_system_of_a_path_is_the_one_that_the_kernel_mounts_there():
    """/proc is proc on every Linux, and nothing of it is on a disk."""
    assert file_system_at("/proc/self") == "proc"


def test_a_port_is_taken_where_somebody_listens(read, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = f"torchrun --nproc-per-node 2 --master-port {port} train.py"
    assert ids(ports.findings(read(words))) == []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        (found,) = ports.findings(read(words))
        assert (found.id, found.severity, found.where) == ("PF506", "error", "--master-port")
        # another node listens, or torchrun finds a port itself
        assert ids(ports.findings(read(f"{words[:9]}--node-rank 1 {words[9:]}"))) == []
        assert ids(ports.findings(read("torchrun --nproc-per-node 2 train.py"))) == []
        launch = (
            f"accelerate launch --multi_gpu --num_processes 2 --main_process_port {port} train.py"
        )
        (found,) = ports.findings(read(launch))
        assert found.severity == "info"
        (found,) = ports.findings(read(f"deepspeed --num_gpus 2 --master_port {port} train.py"))
        assert found.severity == "error"


@pytest.mark.parametrize(
    ("address", "rank", "expected"),
    [
        ("node1", 1, ["PF507"]),
        ("node1", 0, []),
        ("127.0.0.1", 1, ["PF507"]),
        ("node2", 1, []),
        ("nobody", 1, []),
    ],
)
def test_a_loopback_address_counts_on_every_node_but_the_first(
    read, tmp_path, address, rank, expected
):
    """Debian gives a node's own name 127.0.1.1."""
    hosts = "127.0.0.1 localhost\n127.0.1.1 node1 # own\n10.0.0.2 node2.cluster node2\n"
    root = write(tmp_path / "root", {"etc/hosts": hosts})
    plan = read(f"torchrun --nnodes 2 --node-rank {rank} --master-addr {address} train.py")

    assert ids(ports.findings(plan, root)) == expected


def test_the_hosts_file_is_read_as_the_resolver_reads_it():
    """Every IPv4 name of this machine's own file."""
    for line in Path("/etc/hosts").read_text().splitlines():
        words = line.partition("#")[0].split()
        for name in words[1:]:
            address = ports.address_in_hosts(name)
            if address is not None and ":" not in address:
                assert address in socket.gethostbyname_ex(name)[2]


@pytest.mark.parametrize(
    ("text", "is_missing"),
    [
        ("", False),
        ("eth", False),
        ("ib", True),
        ("ib,eth", False),
        ("=eth", True),
        ("=eth0", False),
        ("^docker,lo", False),
        ("eth0:1", False),
    ],
)
def test_nccl_picks_interfaces_by_prefix(text, is_missing):
    """NCCL user guide: `eth` is every interface that begins so, `=eth0` that one, `^` all others."""
    assert network.not_found_by_nccl(text, ("eth0", "lo")) == is_missing


def test_switches_that_slow_a_launch_are_told(read):
    env = {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1", "NCCL_SHM_DISABLE": "0"}
    plan = read("torchrun --nproc-per-node 2 train.py", env)

    (found,) = network.findings(plan)
    assert (found.id, found.severity, found.where) == ("PF516", "info", "$NCCL_P2P_DISABLE")
    assert ids(network.findings(read("torchrun train.py", env))) == []


@pytest.mark.parametrize(
    ("size", "words", "expected"),
    [
        (64 * MIB, "torchrun --nproc-per-node 2 train.py", ["PF512"]),
        (64 * MIB, "torchrun train.py --dataloader_num_workers 1", ["PF512"]),
        (64 * MIB, "torchrun train.py", []),
        (GIB, "torchrun --nproc-per-node 2 train.py", []),
    ],
)
def test_small_shared_memory_is_told_where_it_is_used(read, size, words, expected):
    """64 MiB is what `docker run` gives."""
    workers = 1 if "workers" in words else 0
    space = Space("/dev/shm", size, size)

    assert ids(limits._shared_memory(read(words), workers, space)) == expected


@pytest.mark.parametrize(
    ("locked", "devices", "expected"),
    [("65536", True, ["PF513"]), ("unlimited", True, []), ("65536", False, [])],
)
def test_locked_memory_matters_where_infiniband_is(tmp_path, locked, devices, expected):
    line = f"{'Max locked memory':<26}{locked:<21}{locked:<21}bytes\n"
    root = write(tmp_path, {"proc/self/limits": line})
    if devices:
        (tmp_path / "sys/class/infiniband/mlx5_0").mkdir(parents=True)

    assert ids(limits._locked_memory(root)) == expected


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("--dataset_name user/name", []),
        ("--dataset_name data/rows.jsonl", ["PF519"]),
        ("--dataset_name ./rows", ["PF519"]),
        ("--dataset_name here.jsonl", []),
        ("--train_file rows", ["PF519"]),
        ("--data_files data/*.jsonl", []),
        ("--dataset_name hf://datasets/a/b.jsonl", []),
        ("", []),
    ],
)
def test_a_path_of_the_data_is_looked_for(read, tmp_path, argument, expected):
    (tmp_path / "here.jsonl").write_text("{}\n")

    assert ids(data.findings(read(f"torchrun train.py {argument}"))) == expected


GATED = "meta-llama/Llama-2-7b-hf"


def snapshot(home: Path, model: str, files: dict[str, str]) -> None:
    folder = home / "hub" / f"models--{model.replace('/', '--')}"
    write(folder, {"refs/main": "abc", "snapshots/abc/config.json": "{}"})
    write(folder / "snapshots" / "abc", files)


@pytest.mark.parametrize(
    ("model", "env", "files", "expected"),
    [
        ("a/b", {"HF_HUB_OFFLINE": "1"}, None, ["PF510"]),
        ("a/b", {"TRANSFORMERS_OFFLINE": "yes"}, None, ["PF510"]),
        ("a/b", {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, None, []),
        ("a/b", {}, None, []),
        ("a/b", {"HF_HUB_OFFLINE": "1"}, {"model.safetensors": ""}, []),
        ("a/b", {"HF_HUB_OFFLINE": "1"}, {}, ["PF510"]),
        (GATED, {}, None, ["PF511"]),
        (GATED, {"HF_TOKEN": "hf_x"}, None, []),
        (GATED, {}, {"model.safetensors": ""}, []),
        ("lmsys/vicuna-7b-v1.5", {}, None, []),
    ],
)
def test_a_gated_model_wants_a_token(read, tmp_path, model, env, files, expected):
    """And a launch without a network wants the files."""
    home = tmp_path / "home"
    home.mkdir()
    if files is not None:
        snapshot(home, model, files)
    plan = read(f"torchrun train.py --model_name_or_path {model}", {**env, "HF_HOME": str(home)})

    assert ids(hub.findings(plan.with_edits({"model": model}), None)) == expected


def test_a_download_needs_a_cache_that_can_be_written(read, tmp_path):
    (tmp_path / "file").write_text("")
    plan = read("torchrun train.py", {"HF_HOME": str(tmp_path / "file")}).with_edits(
        {"model": "a/b"}
    )
    assert ids(hub.findings(plan, None)) == ["PF520"]

    plan = read("torchrun train.py", {"HF_HOME": str(tmp_path / "home")}).with_edits(
        {"model": "a/b"}
    )
    large = sized(space_at(str(tmp_path)).free_bytes)  # two bytes each
    assert ids(hub.findings(plan, large)) == ["PF520"]
    assert ids(hub.findings(plan, describe(CONFIG, "a/b", "test"))) == []


def states(step: int, num_ranks: int) -> dict[str, str]:
    names = {"latest": f"global_step{step}"}
    for rank in range(num_ranks):
        names[f"global_step{step}/bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"] = ""
    return names


ZERO2 = '{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": "auto"}'


@pytest.mark.parametrize(
    ("files", "engine", "expected"),
    [
        (states(10, 8), "zero", None),
        (states(10, 4), "zero", "error"),
        ({**states(10, 4), "global_step10/zero/p/fp32.pt": ""}, "zero", None),
        ({"model.safetensors": "", "optimizer.pt": ""}, "zero", "error"),
        ({"pytorch_model_fsdp_0/__0_0.distcp": ""}, "ddp", "error"),
        ({"model.safetensors": "", "optimizer.pt": ""}, "ddp", None),
        ({**states(10, 8), "model.safetensors": ""}, "ddp", "warning"),
        (None, "ddp", "error"),
    ],
)
def test_a_checkpoint_tells_who_wrote_it(plugins, read, tmp_path, files, engine, expected):
    """Nothing of it is opened: the names are enough."""
    if files is not None:
        write(tmp_path / "out/checkpoint-10", {**files, "trainer_state.json": "{}"})
    write(tmp_path, {"ds.json": ZERO2})
    more = "--deepspeed ds.json" if engine == "zero" else ""
    words = (
        f"torchrun --nproc-per-node 8 train.py --resume_from_checkpoint out/checkpoint-10 {more}"
    )

    found = list(resume.findings(read(words)))
    assert [(f.id, f.severity) for f in found] == ([("PF505", expected)] if expected else [])
    from_login_node = read(words, here=False)
    seen = [f.id for f in told(plugins, from_login_node) if f.id == "PF505"]
    assert seen == (["PF505"] if expected and files is not None else [])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--save_total_limit 2", ["PF504"]),
        ("--save_total_limit 3", ["PF504"]),
        ("", []),
        ("--save_total_limit 2 --resume_from_checkpoint true", []),
        ("--save_total_limit 2 --save_strategy no", []),
    ],
)
def test_a_folder_full_of_checkpoints_is_told(read, tmp_path, arguments, expected):
    for step in (500, 1000):
        (tmp_path / "out" / f"checkpoint-{step}").mkdir(parents=True)

    assert ids(resume.findings(read(f"torchrun train.py --output_dir out {arguments}"))) == expected

"""Asking several nodes what they have: through srun in an allocation, or through torchrun's store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from preflight.errors import BadInput
from preflight.node.network import host_name
from preflight.slurm.hostlist import host_names

KEY = "preflight/probe"


def through_srun(
    env: Mapping[str, str], timeout_s: float, checkpoints: str | None
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Run this command once on every node of the allocation; return what they said, and who said nothing."""
    if not env.get("SLURM_JOB_ID"):
        raise BadInput.one(
            "--nodes asks the nodes of a Slurm allocation, and SLURM_JOB_ID is not set",
            fix="inside salloc or sbatch; without Slurm, `torchrun ... -m preflight probe --gather`",
        )
    listed = env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST") or ""
    try:
        names = host_names(listed)
    except ValueError as error:
        raise BadInput.one(str(error), "SLURM_JOB_NODELIST") from error
    argv = ["srun", "--ntasks-per-node=1", "--kill-on-bad-exit=0"]
    if names:
        argv += [f"--nodes={len(names)}", f"--ntasks={len(names)}"]
    # A step of an allocation that another step fills waits for it, unless it may share.
    argv += ["--overlap", sys.executable, "-m", "preflight", "probe", "--format", "json"]
    argv += ["--compact", *(["--checkpoints", checkpoints] if checkpoints else [])]
    text, complaint = _output_until(argv, timeout_s)
    nodes: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        for item in _nodes_of(line):
            nodes[str(item["host"])] = item
    missing = tuple(name for name in names if name not in nodes)
    if not nodes:
        raise BadInput.one(
            "srun started nothing that answered" + (f": {complaint}" if complaint else ""),
            fix=f"`srun --ntasks-per-node=1 hostname` shows whether steps start; --timeout is {timeout_s:g} s",
        )
    order = {name: index for index, name in enumerate(names)}
    return sorted(nodes.values(), key=lambda n: order.get(str(n["host"]), len(order))), missing


def _nodes_of(line: str) -> list[dict[str, Any]]:
    """Return the nodes of one line of output; other programs may print lines too."""
    start = line.find('{"schema_version"')
    if start < 0:
        return []
    try:
        value = json.loads(line[start:])
    except ValueError:
        return []
    nodes = value.get("nodes")
    return (
        [n for n in nodes if isinstance(n, dict) and "host" in n] if isinstance(nodes, list) else []
    )


def _output_until(argv: list[str], timeout_s: float) -> tuple[str, str]:
    """Return what a program printed until it ended or the time was over, and its last complaint."""
    import subprocess
    from tempfile import TemporaryFile

    # Not pipes: a task that outlives srun holds them open for as long as it likes.
    with (
        TemporaryFile("w+", errors="replace") as output,
        TemporaryFile("w+", errors="replace") as errors,
    ):
        try:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=errors)
        except OSError as error:
            raise BadInput.one(f"srun cannot be started: {error.strerror}") from error
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            # srun ends its tasks on the first signal; what answered was already printed.
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        output.seek(0)
        errors.seek(0)
        lines = errors.read().strip().splitlines()
        return output.read(), lines[-1] if lines else ""


def through_store(
    env: Mapping[str, str], timeout_s: float, describe: Callable[[], dict[str, Any]]
) -> tuple[list[dict[str, Any]], tuple[str, ...]] | None:
    """Meet the other nodes in the store of torchrun; None on every node but the first.

    A node first says who it is and then looks: one that hangs while it looks has a name.
    """
    missing = [n for n in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if n not in env]
    if missing:
        raise BadInput.one(
            f"--gather is for a process that torchrun started, and {missing[0]} is not set",
            fix="torchrun --nnodes N --nproc-per-node 1 --rdzv-endpoint HOST:PORT -m preflight probe --gather",
        )
    rank, local_rank = int(env["RANK"]), int(env.get("LOCAL_RANK", "0"))
    if local_rank != 0:
        return None
    node = int(env.get("GROUP_RANK", rank))
    num_nodes = int(env.get("GROUP_WORLD_SIZE", env["WORLD_SIZE"]))
    store = _store(env, rank, timeout_s)
    _put(store, f"{KEY}/name/{node}", host_name(dict(env)))
    if node != 0:
        _put(store, f"{KEY}/value/{node}", json.dumps(describe()))
        return None
    nodes = [describe()]
    absent: list[str] = []
    for other in range(1, num_nodes):
        text = _value(store, f"{KEY}/value/{other}", timeout_s if not absent else 0.1)
        if text is None:
            name = _value(store, f"{KEY}/name/{other}", 0.1)
            absent.append(name or f"node {other}")
        else:
            value = json.loads(text)
            if any(value["host"] == known["host"] for known in nodes):
                value["host"] = f"{value['host']} (node {other})"  # two nodes of one name
            nodes.append(value)
    return nodes, tuple(absent)


def _store(env: Mapping[str, str], rank: int, timeout_s: float) -> Any:
    """Return the store that the ranks of this launch share: torchrun's own, or one that rank 0 opens."""
    from datetime import timedelta

    from torch.distributed import TCPStore  # type: ignore[attr-defined,unused-ignore]

    return TCPStore(
        env["MASTER_ADDR"],
        int(env["MASTER_PORT"]),
        is_master=rank == 0 and env.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
        timeout=timedelta(seconds=timeout_s),
        wait_for_workers=False,
    )


def _put(store: Any, key: str, value: str) -> None:
    from torch.distributed import DistError

    try:
        store.set(key, value)
    except DistError as error:
        raise BadInput.one(
            "the first node is gone: it waited no longer for this one", fix="a larger --timeout"
        ) from error


def _value(store: Any, key: str, timeout_s: float) -> str | None:
    """Return what a node put under a key, None where it did not in time."""
    from datetime import timedelta

    from torch.distributed import DistStoreError

    try:
        store.wait([key], timedelta(seconds=timeout_s))
    except DistStoreError:
        return None
    value: bytes = store.get(key)
    return value.decode()

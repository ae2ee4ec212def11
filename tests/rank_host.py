"""Imports the libraries of a training once, then forks the ranks of each script that it is asked for.

A rank of its own imports torch, transformers, DeepSpeed and PEFT for six seconds and trains for one. Forked, it
finds them there, with nothing set up: no process group, no thread, no variable of a launch.

Requests are JSON lines on stdin, answers JSON lines on stdout; ranks.py asks.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "launches" / "worker"))

GRACE_S = 10.0
"""A rank whose peer has failed waits for it; after so long it is ended."""


def import_libraries() -> None:
    """Import what the scripts of ranks need; collections skip what that left."""
    warnings.filterwarnings("ignore")
    import accelerate
    import bitsandbytes
    import cpu_ranks
    import deepspeed
    import peft
    import torch.distributed.fsdp
    import transformers

    for module, names in {
        transformers: ("AutoModelForCausalLM", "LlamaForCausalLM", "Trainer", "BitsAndBytesConfig"),
        peft: ("LoraConfig",),
        accelerate: ("Accelerator",),
        deepspeed: ("initialize",),
        bitsandbytes: ("nn",),
        torch.distributed.fsdp: ("FullyShardedDataParallel",),
    }.items():
        for name in names:
            getattr(module, name)
    cpu_ranks.patch_deepspeed_operator(sys.modules["deepspeed.comm.torch"])
    gc.collect()
    gc.freeze()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def rank_variables(rank: int, world: int, port: int) -> dict[str, str]:
    """Return what torchrun sets for a rank of one node; nothing where there are no ranks."""
    if world == 0:
        return {}
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    return {
        **{name: str(value) for name, value in ranks.items()},
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def start(request: dict[str, Any], rank: int, port: int) -> int:
    """Fork one rank; return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(request["cwd"])
        for name in ("stdout", "stderr"):
            file = os.open(f"{request['out']}/{name}-{rank}", os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(file, getattr(sys, f"__{name}__").fileno())
        os.dup2(os.open(request["stdin"] or os.devnull, os.O_RDONLY), 0)
        os.environ.update(request["env"])
        os.environ.update(rank_variables(rank, request["world"], port))
        script = request["argv"][0]
        sys.argv = request["argv"]
        sys.path.insert(0, os.path.dirname(script))
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        # A rank that is done leaves at once: threads of gloo's that still run would abort it at exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait_for(pids: list[int], seconds: float) -> list[int]:
    """Return the exit codes of ranks; those that hang, or wait for one that failed, are ended."""
    codes: dict[int, int] = {}
    deadline = time.monotonic() + seconds
    while len(codes) < len(pids):
        for pid in pids:
            if pid not in codes:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    codes[pid] = os.waitstatus_to_exitcode(status)
                    if codes[pid] != 0:
                        deadline = min(deadline, time.monotonic() + GRACE_S)
        if time.monotonic() > deadline:
            for pid in pids:
                if pid not in codes:
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[pid] for pid in pids]


def main() -> None:
    import_libraries()
    for line in sys.stdin:
        request = json.loads(line)
        port = free_port()
        pids = [start(request, rank, port) for rank in range(max(request["world"], 1))]
        print(json.dumps(wait_for(pids, request["seconds"])), flush=True)


if __name__ == "__main__":
    main()

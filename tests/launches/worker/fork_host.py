"""Imports the libraries of a training once, then forks a process for each script that it is asked for.

A rank of its own imports torch, transformers, DeepSpeed and PEFT for six seconds and trains for one. Forked, it
finds them there, with nothing set up: no process group, no thread, and the variables of whoever asks.

Usage: fork_host.py SOCKET. It prints a line when it listens, and ends with its stdin. fork_client.py asks.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
import warnings
from typing import Any

import cpu_ranks
from fork_client import LENGTH

LIBRARIES = {
    "torch.distributed.fsdp": ["FullyShardedDataParallel"],
    "transformers": ["AutoModelForCausalLM", "BitsAndBytesConfig", "LlamaForCausalLM", "Trainer"],
    "accelerate": ["Accelerator"],
    "accelerate.commands.launch": ["launch_command"],
    "torch.distributed.run": ["main"],
    "deepspeed": ["initialize"],
    "deepspeed.comm.torch": [],
    "bitsandbytes": ["nn"],
    "peft": ["LoraConfig"],
    "trl": ["SFTTrainer"],
}
"""Module -> names that it imports when they are asked for."""


def import_libraries() -> None:
    """Import what scripts of ranks need; collections skip what that left."""
    warnings.filterwarnings("ignore")
    for module, names in LIBRARIES.items():
        for name in names:
            getattr(importlib.import_module(module), name)
    cpu_ranks.patch_deepspeed_operator(sys.modules["deepspeed.comm.torch"])
    gc.collect()
    gc.freeze()


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return what is asked for, and the files that the process writes to."""
    length, files, _, _ = socket.recv_fds(connection, LENGTH.size, 3)
    data = b""
    while len(data) < LENGTH.unpack(length)[0]:
        data += connection.recv(1 << 16)
    request: dict[str, Any] = json.loads(data)
    return request, files


def serve(connection: socket.socket) -> None:
    """Fork the process, and say how it ended; whoever asked and is gone takes it along."""
    request, files = receive(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(request, files)
    for file in files:
        os.close(file)
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([connection, ended], [], [])
    if ended not in ready:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if ended in ready:
        connection.sendall(code.to_bytes(LENGTH.size, "big", signed=True))


def become(request: dict[str, Any], files: list[int]) -> None:
    """Run a script as its own process would; never return."""
    code = 1
    try:
        for number, file in enumerate(files):
            os.dup2(file, number)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        script = request["argv"][0]
        sys.argv = list(request["argv"])
        paths = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
        sys.path[:0] = [os.path.dirname(os.path.abspath(script)), *paths]
        if "as" in request:
            sys.modules.pop("sitecustomize", None)
            importlib.import_module("sitecustomize").start_as(**request["as"])
        runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
        # A rank that is done leaves at once: threads of gloo's that still run would abort it at exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def reap() -> None:
    """Take leave of the processes that ended: their seconds count as this one's."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    import_libraries()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
    listener.listen(64)
    print("listening", flush=True)
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        reap()
        if sys.stdin in ready:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            serve(connection)
            os._exit(0)
        connection.close()


if __name__ == "__main__":
    sys.modules["fork_host"] = sys.modules["__main__"]
    main()

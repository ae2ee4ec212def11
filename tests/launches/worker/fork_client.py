"""Asks fork_host.py for a process that has the libraries imported; the standard library alone, for every process may ask."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from typing import Any

HOST = "PREFLIGHT_TEST_FORK_HOST"
"""The variable that names the host's socket."""
RANKS_ALONE = "PREFLIGHT_TEST_FORK_RANKS"
"""The variable that says that a launcher is started as ever, and only its ranks are forked."""
SCRIPTS = ("train", "sft.py")
"""How the names of scripts begin that are ranks: the tests' own, and TRL's."""
LENGTH = struct.Struct("!I")


def ask(path: str, request: dict[str, Any], files: list[int]) -> socket.socket:
    """Start a process with three files as its stdin, stdout and stderr; closing the socket ends it."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    data = json.dumps(request).encode()
    socket.send_fds(connection, [LENGTH.pack(len(data))], files)
    connection.sendall(data)
    return connection


def exit_code(connection: socket.socket) -> int:
    """Wait for the process; a signal that ended it is a negative number."""
    told = connection.recv(LENGTH.size)
    if not told:
        raise ChildProcessError("the process that forks has ended")
    return int.from_bytes(told, "big", signed=True)


def is_fork() -> bool:
    """Tell whether this process is one that the host forked."""
    return "fork_host" in sys.modules


def hand_over() -> None:
    """Let a fork of the host do what this process was started for, where it is a script of Python's; return otherwise.

    This process stays: it has the pid that the launcher knows, and ends as the fork ends.
    """
    words = sys.orig_argv[1:]
    while words and words[0] in ("-u", "-B"):
        words = words[1:]
    if not words or not os.path.isfile(words[0]):
        return
    if RANKS_ALONE in os.environ and not os.path.basename(words[0]).startswith(SCRIPTS):
        return
    started_as = {"pid": os.getpid(), "argv": sys.orig_argv}
    request = {"argv": words, "env": dict(os.environ), "cwd": os.getcwd(), "as": started_as}
    code = exit_code(ask(os.environ[HOST], request, [0, 1, 2]))
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)

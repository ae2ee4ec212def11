"""Keeps the daemons of one test cluster: starts them, and ends everything below it when the tests end.

Run as a process of its own by `cluster.py`. It lives as long as its standard input: a test run that is
killed closes it too, so no daemon outlives the tests. As a subreaper it inherits what daemons and jobs
leave behind, slurmstepd among them, so all of it can be found and ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
"""<linux/prctl.h>"""
GRACE_S = 1.5


def stat_of(pid: int) -> tuple[int, str]:
    """Return parent and state of a process; (0, "Z") of one that is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0, "Z"
    state, parent = text.rpartition(")")[2].split()[:2]
    return int(parent), state


def living_below(ancestor: int) -> list[int]:
    """Return every process below another one, zombies not counted."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            parents[int(entry)] = stat_of(int(entry))
    found, waiting = [], [ancestor]
    while waiting:
        above = waiting.pop()
        for pid, (parent, state) in parents.items():
            if parent == above:
                waiting.append(pid)
                if state != "Z":
                    found.append(pid)
    return found


def reap() -> None:
    """Collect whoever has ended, orphans of daemons too."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                return
        except ChildProcessError:
            return


def end_all() -> None:
    """End every process below this one: asked at first, then killed."""
    deadline = time.monotonic() + GRACE_S
    asked: set[int] = set()
    while left := living_below(os.getpid()):
        is_late = time.monotonic() > deadline
        for pid in left:
            if is_late or pid not in asked:
                asked.add(pid)
                try:
                    os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
                except ProcessLookupError:
                    continue
        time.sleep(0.02)
        reap()
    reap()


class Keeper:
    """The daemons by name, each a child of this process in the foreground."""

    def __init__(self, commands: dict[str, list[str]], logs: Path) -> None:
        self.commands, self.logs = commands, logs
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self.logs / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                self.commands[name], stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        daemon = self.daemons[name]
        daemon.send_signal(number)
        try:
            daemon.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def answer(self, request: list[str]) -> str:
        """Do `start NAME`, `stop NAME` or `kill NAME`, or look whether it is `alive`; say when it is done."""
        verb, name = request
        if verb == "start":
            self.start(name)
        elif verb == "alive":
            code = self.daemons[name].poll()
            return "done" if code is None else f"ended with exit code {code}"
        else:
            self.stop(name, signal.SIGKILL if verb == "kill" else signal.SIGTERM)
        return "done"


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Ctrl-C reaches the whole foreground group: the tests end first, then this process by its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keeper = Keeper(json.loads(sys.argv[1]), Path(sys.argv[2]))
    try:
        for line in sys.stdin:
            print(keeper.answer(line.split()), flush=True)
    finally:
        end_all()


if __name__ == "__main__":
    main()

"""The process that watches a confined script: starts it, looks how much it takes, and kills what is left of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

from preflight.slurm.landlock import EXECUTE, READ, WRITE, WRITE_FILE, Rule, confine
from preflight.values import dataclass

LONGEST_S = 5.0
AFTER_THE_END_S = 1.0
"""For what a script left in the background when it ended."""
MOST_BYTES_PER_FILE = 8 << 20
MOST_BYTES = 64 << 20
MOST_FILES = 5_000
MOST_PROCESSES = 300
MOST_MEMORY_BYTES = 1 << 30
"""Of each process, address space included."""
NICER = 10
"""So that a script with many processes does not keep its watcher from looking."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_READABLE_DEVICES = ("null", "zero", "full", "random", "urandom")


@dataclass(frozen=True)
class Confinement:
    """What a confined script may do."""

    scratch: str
    """The folder that holds everything of it."""
    writable: tuple[str, ...]
    """Folders that it may write into."""
    programs: tuple[str, ...]
    """Programs that it may start, and folders of them."""
    longest_s: float = LONGEST_S
    most_bytes: int = MOST_BYTES


def end_group(leader: int) -> None:
    """Kill a process and its group, whether it has one by now or not."""
    for send in (os.killpg, os.kill):
        try:
            send(leader, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


def keep(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    rules: Confinement,
    program: bytes,
    writer: int,
) -> NoReturn:
    """Start the program, watch it, kill what is left of it, and tell the parent how it ended."""
    said = "failed the keeper broke"
    child = 0
    try:
        os.setsid()
        _own_streams(rules.scratch, writer)
        child = os.fork()
        if child == 0:
            _become(argv, env, cwd, rules, program, writer)
        os.write(writer, f"{child}\n".encode())
        _end_with_parent(child)
        said = _watched(child, rules)
    except BaseException as error:
        said = f"failed {type(error).__name__}: {error}"
    finally:
        try:
            if child:
                end_group(child)
                _reap(time.monotonic() + AFTER_THE_END_S)
            os.write(writer, said.encode())
        finally:
            os._exit(70)


def _end_with_parent(child: int) -> None:
    def end(*_: object) -> NoReturn:
        end_group(child)
        os._exit(70)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    _ask_kernel(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _ask_kernel(_PR_SET_CHILD_SUBREAPER, 1)  # what a script leaves behind is ours to wait for
    if os.getppid() == 1:
        end()


def _reap(deadline: float) -> None:
    """Wait until everything that was killed is gone: what still dies may still hold a file."""
    while time.monotonic() < deadline:
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


def _ask_kernel(what: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(what, value, 0, 0, 0)


def _own_streams(scratch: str, writer: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    said = os.open(os.path.join(scratch, "stderr"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number, opened in ((0, null), (1, null), (2, said)):
        os.dup2(opened, number)
    os.closerange(3, writer)
    os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX") if writer > 65536 else 65536)


def _become(
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    rules: Confinement,
    program: bytes,
    writer: int,
) -> NoReturn:
    try:
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP) and not 32 <= number <= 33:
                signal.signal(number, signal.SIG_DFL)
        # A session of its own: where the kernel shares time between sessions, the keeper gets its own.
        os.setsid()
        _ask_kernel(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _limit(rules)
        os.nice(NICER)
        os.umask(0o077)
        os.chdir(cwd)
        confine(_paths(rules), program)
        os.execve(argv[0], list(argv), dict(env))
    except BaseException as error:
        os.write(writer, f"failed {type(error).__name__}: {error}".encode())
        os.close(writer)
    finally:
        os._exit(70)


def _limit(rules: Confinement) -> None:
    import resource

    seconds = max(1, round(rules.longest_s))
    for name, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, MOST_BYTES_PER_FILE),
        (resource.RLIMIT_AS, MOST_MEMORY_BYTES),
        (resource.RLIMIT_CPU, seconds + 1),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_NOFILE, 256),
        # The kernel counts all that this user runs, and counts nothing of root's.
        (resource.RLIMIT_NPROC, _num_threads() + MOST_PROCESSES),
    ):
        hard = resource.getrlimit(name)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (most, most))


def _paths(rules: Confinement) -> list[Rule]:
    """Return what may be read, written and started: everything but devices is readable."""
    found: list[Rule] = []
    for name in os.listdir("/"):
        path = "/" + name
        if name != "dev":
            found.append((path, READ))
    found += [(f"/dev/{name}", READ) for name in _READABLE_DEVICES]
    found += [("/dev/null", WRITE_FILE), (rules.scratch, READ)]
    found += [(path, READ | WRITE) for path in rules.writable]
    found += [(path, READ | EXECUTE) for path in rules.programs]
    return found


def _watched(child: int, rules: Confinement) -> str:
    """Wait for the program and for all that it left behind; say how it ended, or why it is stopped."""
    ended = ""
    started = time.monotonic()
    deadline = started + rules.longest_s
    pause, looked = 0.001, started
    num_threads = _num_threads()
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid and pid == child:
            ended = f"exit {os.waitstatus_to_exitcode(status)}"
            deadline = min(deadline, time.monotonic() + AFTER_THE_END_S)
        now = time.monotonic()
        if now > deadline:
            return ended or f"stopped after {rules.longest_s:g} s"
        if now - looked > 0.03:
            looked = now
            too_much = _too_much(rules, child, num_threads)
            if too_much:
                return f"stopped because of {too_much}"
        if not pid:
            time.sleep(pause)
            pause = min(0.005, pause * 1.5)


def _too_much(rules: Confinement, group: int, num_threads_before: int) -> str:
    num_bytes = num_files = 0
    waiting = [*rules.writable]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        num_files += len(entries)
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                num_bytes += entry.stat(follow_symlinks=False).st_size
        if num_bytes > rules.most_bytes:
            return "too many bytes written"
        if num_files > MOST_FILES:
            return "too many files"
    # The count of the whole machine is one small file; only when it jumps is the group counted.
    if _num_threads() <= num_threads_before + MOST_PROCESSES:
        return ""
    return "too many processes" if _num_in_group(group) > MOST_PROCESSES else ""


def _num_threads() -> int:
    try:
        with open("/proc/loadavg", encoding="ascii") as file:
            return int(file.read().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return 1 << 20


def _num_in_group(group: int) -> int:
    """Count the processes of a group, the youngest first, until there are too many."""
    own, number = str(group), 0
    for pid in sorted(
        (int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True
    ):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                number += file.read().rpartition(")")[2].split()[2] == own
        except OSError:
            continue
        if number > MOST_PROCESSES:
            break
    return number

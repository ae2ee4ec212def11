"""A real Slurm on this host: slurmctld, munged and one slurmd per emulated node, on loopback, in one folder.

Needs Debian's slurmctld, slurmd, slurm-client, munge and slurm-wlm-basic-plugins, no root, no systemd, no
cgroups and no GPU: a GPU is a link to /dev/null, which is enough for Slurm to count it, give it away and
export CUDA_VISIBLE_DEVICES. Free ports and a munge key of its own let several clusters run side by side.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from cluster_nodes import NODE_NAMES, gres_lines, node_lines

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol", "sinfo", "squeue")
PACKAGES = "slurmctld slurmd slurm-client munge slurm-wlm-basic-plugins"
SBIN = "/usr/sbin:/sbin"
"""Where Debian puts daemons; not on the path of a plain user."""
MAX_GPUS_PER_NODE = 8
START_S = 30.0

NO_GUARD = """\
function slurm_job_submit(job, partitions, uid) return slurm.SUCCESS end
function slurm_job_modify(job, record, partitions, uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""

SLURM_CONF = """\
ClusterName=preflighttest
FirstJobId=700001
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={root}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/pid/slurmctld
SlurmdPidFile={root}/pid/%n
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/%n.log
SlurmctldParameters=enable_configless
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
GresTypes=gpu
ReturnToService=2
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
KillWait=2
JobSubmitPlugins=lua
"""


class ClusterFailed(Exception):
    """The cluster did not come up; carries what its daemons said."""


def missing_programs() -> list[str]:
    """Return what of Slurm this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def free_ports(number: int) -> list[int]:
    """Return ports of loopback that nobody has now."""
    taken = [socket.socket() for _ in range(number)]
    try:
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


class Cluster:
    """One running Slurm, and how to talk to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "etc" / "slurm.conf"
        self.guard = root / "etc" / "job_submit.lua"
        self.path = f"{os.environ.get('PATH', '')}:{SBIN}"
        self.extra_lines: tuple[str, ...] = ()
        """Lines of slurm.conf beside those that every cluster of the tests has."""
        self._keeper: subprocess.Popen[str] | None = None

    # Starting and stopping

    def start(self) -> None:
        """Write the configuration, start every daemon, and wait until all nodes are idle."""
        for name in ("etc", "state", "spool", "log", "pid", "munge", "dev"):
            (self.root / name).mkdir(parents=True)
        self._write_configuration()
        commands = {
            "munged": self._munged(),
            **self.accounting_daemons(),
            "slurmctld": [self.which("slurmctld"), "-D", "-i"],
            **{name: [self.which("slurmd"), "-D", "-N", name] for name in NODE_NAMES},
        }
        self._keeper = subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).parent / "cluster_keeper.py"),
                json.dumps(commands),
                str(self.root / "log"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment(),
            start_new_session=True,
        )
        self.daemon("start", "munged")
        self.wait((self.root / "munge" / "socket").exists, "munged made no socket")
        self.start_accounting()
        self.daemon("start", "slurmctld")
        for name in NODE_NAMES:
            self.daemon("start", name)
        self.wait(self._all_idle, "not all nodes are idle")

    def accounting_daemons(self) -> dict[str, list[str]]:
        """Return the commands of what keeps accounts; this cluster keeps none."""
        return {}

    def start_accounting(self) -> None:
        """Start what keeps accounts, before the controller asks for it."""

    def stop(self) -> None:
        """End every process of the cluster, jobs and their steps among them."""
        if self._keeper is None:
            return
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()
        self._keeper = None

    def daemon(self, verb: str, name: str) -> None:
        """`start`, `stop` or `kill` one daemon, or ask whether it is `alive`: munged, slurmctld, or a node's name."""
        assert self._keeper is not None and self._keeper.stdin and self._keeper.stdout
        self._keeper.stdin.write(f"{verb} {name}\n")
        self._keeper.stdin.flush()
        answer = self._keeper.stdout.readline().strip()
        if answer != "done":
            raise ClusterFailed(f"{verb} {name}: {answer or 'no answer'}\n{self._logs()}")

    def wait_for_controller(self) -> None:
        """Return once slurmctld answers."""
        self.wait(lambda: "is UP" in self.output("scontrol", "ping"), "slurmctld does not answer")

    # Talking to it

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a user of this cluster."""
        own = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
        return {**own, "PATH": self.path, "SLURM_CONF": str(self.conf), **more}

    def run(
        self,
        *words: str,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as a user of this cluster; the caller looks at its exit code."""
        how = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        return subprocess.run(
            words,
            cwd=cwd or self.root,
            env=self.environment(**(env or {})),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            **how,
        )

    def output(self, *words: str) -> str:
        return self.run(*words).stdout

    def finished(self, job_id: str, timeout_s: float = 30.0) -> dict[str, str]:
        """Wait until a job has ended; return what `scontrol show job` says of it."""
        facts: dict[str, str] = {}

        def has_ended() -> bool:
            facts.update(self.facts(job_id))
            return facts.get("JobState", "") not in (
                "",
                "PENDING",
                "CONFIGURING",
                "RUNNING",
                "COMPLETING",
            )

        self.wait(has_ended, f"job {job_id} did not end", timeout_s)
        return facts

    def facts(self, job_id: str) -> dict[str, str]:
        """Return what `scontrol show job` says of a job now."""
        text = self.output("scontrol", "-o", "show", "job", job_id)
        return dict(word.partition("=")[::2] for word in text.split() if "=" in word)

    def running(self, job_id: str, timeout_s: float = 30.0) -> None:
        """Wait until a job has started."""
        self.wait(
            lambda: self.facts(job_id).get("JobState") == "RUNNING",
            f"job {job_id} did not start",
            timeout_s,
        )

    def settle(self, timeout_s: float = 60.0) -> None:
        """Return once every node is idle again: after a restart of the controller they answer one by one."""
        self.wait(self._all_idle, "not all nodes are idle again", timeout_s)

    def cancel_all(self) -> None:
        """Cancel every job, running or not."""
        self.run("scancel", "--user", getpass.getuser())

    def set_guard(self, text: str = NO_GUARD) -> None:
        """Put another job_submit.lua in place, with a time by which slurmctld sees that it is another."""
        new = self.guard.with_suffix(".new")
        new.write_text(text)
        before = self.guard.stat().st_mtime if self.guard.exists() else 0.0
        os.utime(new, (time.time(), max(time.time(), before + 2)))  # it compares whole seconds
        new.replace(self.guard)

    def remove_guard(self) -> None:
        """Put the job_submit.lua back that lets everything pass."""
        if self.guard.read_text() != NO_GUARD:
            self.set_guard()

    # Inside

    def _write_configuration(self) -> None:
        port, *node_ports = free_ports(1 + len(NODE_NAMES))
        ports = dict(zip(NODE_NAMES, node_ports, strict=True))
        head = SLURM_CONF.format(port=port, user=getpass.getuser(), root=self.root)
        self.conf.write_text(head + "\n".join((*self.extra_lines, *node_lines(ports))) + "\n")
        for number in range(MAX_GPUS_PER_NODE):
            (self.root / "dev" / f"gpu{number}").symlink_to("/dev/null")
        device = str(self.root / "dev" / "gpu")
        (self.root / "etc" / "gres.conf").write_text("\n".join(gres_lines(device)) + "\n")
        (self.root / "etc" / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
        for name in NODE_NAMES:
            (self.root / "spool" / name).mkdir()
        self.set_guard()

    def _munged(self) -> list[str]:
        folder = self.root / "munge"
        key = folder / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = ("key", "pid", "log", "seed")
        return [
            self.which("munged"),
            "--foreground",
            "--force",  # a folder of a test run is writable by its group
            f"--socket={folder / 'socket'}",
            *(f"--{name}-file={folder / name}" for name in files),
        ]

    def which(self, program: str) -> str:
        found = shutil.which(program, path=self.path)
        if found is None:
            raise ClusterFailed(f"{program} is not installed: apt-get install {PACKAGES}")
        return found

    def _all_idle(self) -> bool:
        self.daemon("alive", "slurmctld")
        lines = self.output("sinfo", "-h", "-N", "-o", "%N %T").split("\n")
        states = dict(line.split() for line in lines if line)
        return set(states) == set(NODE_NAMES) and set(states.values()) == {"idle"}

    def wait(self, is_done: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not is_done():
            if time.monotonic() > deadline:
                raise ClusterFailed(f"{what} within {timeout_s:g} s\n{self._logs()}")
            time.sleep(0.03)

    def _logs(self) -> str:
        parts = []
        for path in sorted((self.root / "log").iterdir()):
            text = path.read_text(errors="replace").strip().split("\n")
            parts.append(f"--- {path.name}\n" + "\n".join(text[-8:]))
        return "\n".join(parts)


Kind = TypeVar("Kind", bound=Cluster)


@contextmanager
def started(kind: type[Kind]) -> Iterator[Kind]:
    """A cluster of a kind in a folder of its own, which is stopped and removed at the end."""
    # The path of a socket may have 107 characters: pytest's own folders are too deep for that.
    root = Path(tempfile.mkdtemp(prefix="preflight-slurm-"))
    running = kind(root)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(root, ignore_errors=True)

"""A script that nobody trusts changes nothing, sends nothing, and ends in time, whatever it says."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hostile_scripts import ENDLESS, QUICK

from preflight.slurm import landlock
from preflight.slurm.dry_run import dry_run

OLDER_KERNELS = (
    "empty a file",
    "move and link",
    "through a link of the script",
    "sockets of bash",
    "another way to start python",
    "kill others",
    "modes, owners and times",
    "tools that write",
)
MARK = f"preflight-hostile-{os.getpid()}"
OUTSIDE = [Path(folder, MARK) for folder in ("/tmp", "/dev/shm", "/var/tmp", "/")]


class Around(NamedTuple):
    """What lies around a hostile script, to be looked at when it has ended."""

    home: Path
    port: int
    listening: list[socket.socket]
    victim: subprocess.Popen[bytes]

    def text(self, script: str) -> str:
        return "#!/bin/bash\n" + script.format(
            home=self.home,
            port=self.port,
            outside=self.home.parent / "outside",
            victim=self.victim.pid,
            mark=MARK,
        )

    def snapshot(self) -> dict[str, tuple[int, ...] | bytes]:
        """Return all that there is to know about every file of the home folder and beside it."""
        found: dict[str, tuple[int, ...] | bytes] = {}
        for path in [self.home, *sorted(self.home.parent.rglob("*"))]:
            facts = path.lstat()
            found[str(path)] = (
                *(facts.st_mode, facts.st_uid, facts.st_gid, facts.st_nlink, facts.st_size),
                *(facts.st_mtime_ns, facts.st_ctime_ns),
            )
            if path.is_file() and not path.is_symlink():
                found[f"{path} text"] = path.read_bytes()
        return found

    def has_heard(self) -> bool:
        return bool(select.select(self.listening, [], [], 0.05)[0])


@pytest.fixture
def around(tmp_path: Path) -> Iterator[Around]:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (home / "file").write_text("a line\n")
    (home / "evil.sh").write_text(f"touch {home}/new; echo x > {home}/new\n")
    (home / "evil.so").write_bytes(b"\x7fELF")
    (home / "link-to-file").symlink_to(home / "file")
    (home / "link-to-folder").symlink_to(home / "sub")
    tcp, udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp.bind(("127.0.0.1", 0))
    tcp.listen()
    udp.bind(("127.0.0.1", tcp.getsockname()[1]))
    victim = subprocess.Popen(["/bin/sleep", "600"])
    try:
        yield Around(home, tcp.getsockname()[1], [tcp, udp], victim)
    finally:
        victim.kill()
        victim.wait()
        tcp.close()
        udp.close()
        for path in OUTSIDE:
            path.unlink(missing_ok=True)


def left_running(home: Path) -> list[str]:
    """Return the processes that were started for a script in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                env = (entry / "environ").read_bytes()
                is_dead = "\nState:\tZ" in (entry / "status").read_text()
            except OSError:
                continue
            if b"PREFLIGHT_DRY=" in env and f"HOME={home}".encode() in env and not is_dead:
                found.append((entry / "cmdline").read_bytes().decode(errors="replace"))
    return found


def run_hostile(around: Around, script: str, longest_s: float) -> float:
    env = {**os.environ, "HOME": str(around.home), "SLURM_NNODES": "1"}
    started = time.monotonic()
    dry_run(
        around.text(script),
        "evil.sh",
        env=env,
        cwd=str(around.home),
        longest_s=longest_s,
    )
    return time.monotonic() - started


def check_nothing_happened(around: Around, before: dict[str, tuple[int, ...] | bytes]) -> None:
    assert around.snapshot() == before
    assert not around.has_heard()
    assert around.victim.poll() is None
    assert "T (stopped)" not in Path(f"/proc/{around.victim.pid}/status").read_text()
    assert Path(f"/proc/{around.victim.pid}/oom_score_adj").read_text() != "1000\n"
    assert not [path for path in OUTSIDE if path.exists()]
    assert not list(Path("/tmp").glob(f"*.{MARK}"))
    deadline = time.monotonic() + 20  # what was killed may take a while to go
    while left_running(around.home) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left_running(around.home)


@pytest.mark.parametrize("name", QUICK)
def test_a_hostile_script_changes_nothing_and_sends_nothing(name, around):
    before = around.snapshot()
    run_hostile(around, QUICK[name], 10.0)

    check_nothing_happened(around, before)


@pytest.mark.parametrize("version", [1, 3])
def test_an_older_landlock_holds_too(version, around, monkeypatch):
    """What Linux 5.13 and 6.2 leave open (renames, truncation, TCP, signals) is closed by seccomp."""
    monkeypatch.setattr(landlock, "landlock_version", lambda: version)
    before = around.snapshot()
    for name in OLDER_KERNELS:
        run_hostile(around, QUICK[name], 10.0)

    check_nothing_happened(around, before)


UNCONFINED = {
    "a new file": "echo x > {home}/new",
    "a changed file": "echo x >> {home}/file",
    "a mode": "chmod 600 {home}/file",
    "a time": "touch {home}/file",
    "TCP": "exec 3<>/dev/tcp/127.0.0.1/{port}",
    "UDP": "echo hi > /dev/udp/127.0.0.1/{port}",
    "a signal": "kill -9 {victim}; sleep 0.1",
}


@pytest.mark.parametrize("name", UNCONFINED)
def test_the_checks_see_what_a_script_does_outside_the_sandbox(name, around):
    before = around.snapshot()
    subprocess.run(["bash", "-c", around.text(UNCONFINED[name])], timeout=60)
    if name == "a signal":
        around.victim.wait(timeout=30)

    with pytest.raises(AssertionError):
        check_nothing_happened(around, before)


@pytest.mark.parametrize("name", ENDLESS)
def test_an_endless_script_is_stopped_and_leaves_nothing_behind(name, around):
    before = around.snapshot()
    seconds = run_hostile(around, ENDLESS[name], 0.7)

    check_nothing_happened(around, before)
    assert seconds < 60  # it ended: how soon is for a quiet machine to say


def test_a_script_whose_reader_is_killed_does_not_live_on(around):
    """The process that watches it ends with the one that started it."""
    code = "\n".join(
        [
            "import os, sys",
            "from preflight.slurm.dry_run import dry_run",
            "print('up', flush=True)",
            "dry_run(sys.argv[1], 'evil.sh', env=dict(os.environ), cwd=sys.argv[2], longest_s=60)",
        ]
    )
    script = "#!/bin/bash\n(while :; do :; done) & while :; do :; done\n"
    reader = subprocess.Popen(
        [sys.executable, "-c", code, script, str(around.home)],
        # Who is killed leaves a folder behind: not in everybody's /tmp.
        env={**os.environ, "HOME": str(around.home), "TMPDIR": str(around.home.parent)},
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while len(was_running := left_running(around.home)) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    reader.kill()
    reader.wait()
    while left_running(around.home) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert len(was_running) >= 2
    assert not left_running(around.home)

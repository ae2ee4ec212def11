"""A script that nobody trusts is read: no process is started, nothing is written or sent, and it ends in bounded steps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hostile_scripts import ENDLESS, QUICK

from preflight.shell.grammar.text import Steps
from preflight.slurm.job_environment import place_of
from preflight.slurm.job_script import read_submission
from preflight.slurm.reading import read_job_script
from preflight.slurm.script_reader import read_script

READ_ALL = """
import json, os, sys
from preflight.slurm.script_reader import read_script

texts, cwd = json.load(sys.stdin), sys.argv[1]
events, active = [], False
WATCHED = ("subprocess.", "os.", "socket.", "pty.", "ctypes.", "shutil.", "signal.", "fcntl.")
READING = ("os.listdir", "os.scandir")


def hook(event, arguments):
    if not active:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if writes or not os.path.isfile(path) or str(path).startswith(("/proc", "/dev")):
            events.append([event, str(path), flags])
    elif event.startswith(WATCHED) and event not in READING or event in ("exec", "compile"):
        events.append([event, repr(arguments)[:200]])


sys.addaudithook(hook)
read_script("torchrun x.py; cat y; a=*; source e/bin/activate; nohup setsid torchrun x.py & true", "warm.sh", (), {}, cwd)
found = {}
for name, text in texts.items():
    active = True
    reading = read_script(text, name, ("a",), {"HOME": cwd, "USER": "u", "TMPDIR": cwd}, cwd)
    active = False
    found[name] = [events[:], [list(one.argv) for one in reading.launches], list(reading.reasons)]
    events.clear()
json.dump(found, sys.stdout)
"""


def snapshot(folder: Path) -> dict[str, object]:
    """Return all that there is to know about every file below a folder, access times apart."""
    found: dict[str, object] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        facts = path.lstat()
        found[str(path)] = (
            *(facts.st_mode, facts.st_uid, facts.st_gid, facts.st_nlink, facts.st_size),
            *(facts.st_mtime_ns, facts.st_ctime_ns),
        )
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    (home / "file").write_text("a line\n")
    (home / "evil.sh").write_text(f"touch {home}/new; echo x > {home}/new\n")
    (home / "evil.so").write_bytes(b"\x7fELF")
    (home / "link-to-file").symlink_to(home / "file")
    (home / "link-to-folder").symlink_to(home / "sub")
    os.mkfifo(home / "fifo")
    return home


READERS = "cat {home}/fifo; x=$(< {home}/fifo); . {home}/fifo; bash {home}/fifo; grep a {home}/fifo; read y < {home}/fifo; cat /proc/self/environ /dev/zero"
"""Who waits on the other side of a FIFO sees that it is opened."""
LAUNCH = "\ntorchrun train.py\n"


def test_nothing_is_executed_written_or_sent(home):
    scripts = {**QUICK, **ENDLESS, "fifos": READERS}
    texts = {
        name: "#!/bin/bash\n"
        + text.format(
            home=home, port=9, outside=home.parent / "outside", victim=1, mark="preflight-mark"
        )
        for name, text in scripts.items()
    }
    before = snapshot(home.parent)
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(home)],
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        cwd=home,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert {name: events for name, (events, _, _) in found.items() if events} == {}
    assert snapshot(home.parent) == before
    assert found.keys() == scripts.keys()
    for name in ENDLESS:
        _, launches, reasons = found[name]
        assert launches or reasons, name


def test_the_watch_sees_what_a_reader_that_executes_would_do(home):
    """The same hook, around one line that starts a program and one that writes."""
    changed = READ_ALL.replace(
        "    active = False\n",
        "    os.system('true'); open('made', 'w').close()\n    active = False\n",
    )
    done = subprocess.run(
        [sys.executable, "-c", changed, str(home)],
        input='{"x": "true"}',
        capture_output=True,
        text=True,
        cwd=home,
        check=True,
    )
    events = [event[0] for event in json.loads(done.stdout)["x"][0]]

    assert "os.system" in events and "open" in events


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_a_script_without_end_costs_bounded_steps(name, monkeypatch, tmp_path):
    spent = [0]
    spend = Steps.spend

    def counted(self: Steps, number: int) -> None:
        spent[0] += number
        spend(self, number)

    monkeypatch.setattr(Steps, "spend", counted)
    text = ENDLESS[name].format(home=tmp_path) + LAUNCH
    reading = read_script(text, "evil.sh", (), {"HOME": str(tmp_path)}, str(tmp_path))

    # Two readings, the second past `exit`, and the step that is one too many in each.
    assert spent[0] <= 2 * (Steps.MOST + (2 << 20))
    assert reading.launches or reading.reasons


def test_bytes_that_are_no_utf_8_are_read_as_they_are(tmp_path):
    """A script in Latin-1, as an old editor writes it."""
    path = tmp_path / "job.sh"
    path.write_bytes(b"#!/bin/bash\n# caf\xe9\nN='caf\xe9 1'\ntorchrun train.py --name \"$N\"\n")
    submission = read_submission("sbatch", [str(path)], {}, str(tmp_path))
    (launch,) = read_job_script(submission, {}, place_of(submission.options, None)).launches

    assert os.fsencode(launch.argv[-1]) == b"caf\xe9 1"

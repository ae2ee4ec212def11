"""Many submissions at once: checks run in turns, who gets none in time passes, and nobody else can take a turn."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from lua_slurm import VERSIONS, LuaGuard, filled
from two_users import ATTACKER, VICTIM

NUM_TURNS = len(os.sched_getaffinity(0))
SUBMIT = """\
import sys
sys.path.insert(0, {folder!r})
from lua_slurm import LuaGuard, filled
guard = LuaGuard(filled("cli_filter.lua", HELPER={helper!r}, TIMEOUT_S={timeout!r}), {version!r})
options = guard.lua.table_from({{"type": "sbatch", "json": '{{"gpus":"2","argv":["job.sh"]}}'}})
code = guard.lua.globals().slurm_cli_pre_submit(options, 0)
print(code, options["extra"])
"""
JUDGES = '"echo stamp=preflight=judged"'


def submit(version: str, helper: str = JUDGES, timeout: str = "2") -> str:
    """Return the text of a program that submits once, as a process of its own, and prints code and stamp."""
    folder = str(Path(__file__).parent)
    return SUBMIT.format(folder=folder, helper=helper, timeout=timeout, version=version)


def ask(*program: str, **env: str) -> subprocess.CompletedProcess[str]:
    words = (sys.executable, "-c", *program)
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **env})


@pytest.fixture
def turns(tmp_path):
    """The files of this user's turns, each with a lock that ends with the returned stack."""
    folder = tmp_path / "preflight"
    folder.mkdir(mode=0o700)
    with ExitStack() as held:
        for number in range(NUM_TURNS):
            file = held.enter_context(open(folder / f"turn{number}", "w"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield held


@pytest.mark.parametrize("version", VERSIONS)
def test_a_submission_whose_turn_does_not_come_passes_with_a_word(tmp_path, turns, version):
    done = ask(submit(version), XDG_RUNTIME_DIR=str(tmp_path))

    assert done.stdout == "0 preflight=not-judged,busy\n"
    assert done.stderr == (
        "preflight: too many submissions at once: no turn within 1 s,"
        " the job was not judged and passes\n"
    )


def test_a_turn_ends_with_whoever_has_it(tmp_path, turns):
    turns.close()
    holder = "\"sh -c 'kill -KILL $$'\""
    killed = [ask(submit("lua51", holder), XDG_RUNTIME_DIR=str(tmp_path)) for _ in range(3)]
    after = ask(submit("lua51"), XDG_RUNTIME_DIR=str(tmp_path))

    assert {done.stdout for done in killed} == {"0 preflight=not-judged,failed\n"}
    assert after.stdout == "0 preflight=judged\n"
    assert {path.name[:4] for path in (tmp_path / "preflight").iterdir()} == {"turn"}


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_where_there_is_no_queue_nobody_waits(tmp_path, turns, shell):
    """Without flock, with one of another make, in a folder that takes no file: as it was before there was a queue."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("timeout", "mkdir", "echo"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    (programs / "sh").symlink_to(f"/bin/{shell}")
    without = ask(submit("lua51"), XDG_RUNTIME_DIR=str(tmp_path), PATH=str(programs))
    (programs / "flock").write_text("#!/bin/sh\necho usage: flock >&2\nexit 1\n")
    (programs / "flock").chmod(0o755)
    other = ask(submit("lua51"), XDG_RUNTIME_DIR=str(tmp_path), PATH=str(programs))
    for turn in (tmp_path / "preflight").iterdir():
        turn.unlink()
        turn.mkdir()
    no_file = ask(submit("lua51"), XDG_RUNTIME_DIR=str(tmp_path), PATH=str(programs))

    for done in (without, other, no_file):
        assert (done.stdout, done.stderr) == ("0 preflight=judged\n", "")


@pytest.mark.parametrize("how", ["folder", "link"])
def test_another_user_cannot_take_the_turns(machine, how):
    """The name of the folder is known to all: whoever makes it first has a folder that is not used."""
    place = Path(f"/tmp/preflight-{VICTIM}")
    own = machine.folder(ATTACKER, "turns", 0o777)
    if how == "link":
        own = machine.folder(VICTIM, "home-of-victim/open", 0o777)
        place.symlink_to(own)
    else:
        place.mkdir()
        os.chown(place, ATTACKER, ATTACKER)
        place.chmod(0o777)
        own = place
    try:
        with ExitStack() as held:
            for number in range(NUM_TURNS):
                path = machine.write(ATTACKER, own / f"turn{number}", "", 0o666)
                fcntl.flock(held.enter_context(open(path)), fcntl.LOCK_EX)
            done = machine.run(
                VICTIM,
                *(sys.executable, "-c", submit("lua51")),
                cwd=machine.root,
                XDG_RUNTIME_DIR="",
            )
    finally:
        if how == "link":
            place.unlink()
        else:
            for path in place.iterdir():
                path.unlink()
            place.rmdir()

    assert (done.stdout, done.stderr) == ("0 preflight=judged\n", "")


def test_the_folder_of_turns_is_its_users_alone(machine):
    place = Path(f"/tmp/preflight-{VICTIM}")
    words = ("sh", "-c", 'umask 0; exec "$@"', "sh", sys.executable, "-c", submit("lua51"))
    done = machine.run(VICTIM, *words, cwd=machine.root, XDG_RUNTIME_DIR="")
    status = place.stat()
    for path in place.iterdir():
        path.unlink()
    place.rmdir()

    assert done.stdout == "0 preflight=judged\n"
    assert (status.st_uid, status.st_mode & 0o777) == (VICTIM, 0o700)


def burst(site, number: int) -> tuple[list[float], list[str]]:
    """Submit many jobs at once; return how long each took, and their stamps."""
    env = site.cluster.environment(SLURM_CONF=str(site.conf))
    words = ("sbatch", "--parsable", "-p", "h100", "job.sh")
    started = time.monotonic()
    running = [
        subprocess.Popen(
            words,
            cwd=site.work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(number)
    ]
    took, stamps = [], []
    for process in running:
        out, said = process.communicate(timeout=60)
        took.append(time.monotonic() - started)
        assert process.returncode == 0, said
        stamps.append(site.cluster.facts(out.strip())["Extra"])
    return took, stamps


def test_many_at_once_are_judged_a_few_at_a_time(site):
    log = site.work / "log"
    helper = site.work / "helper"
    helper.write_text(f"echo + >>{log}\nsleep 0.05\necho - >>{log}\necho stamp=preflight=judged\n")
    site.helper(f"sh {helper}")
    _, stamps = burst(site, 12)
    now = most = 0
    for mark in log.read_text().split():
        now += 1 if mark == "+" else -1
        most = max(most, now)

    assert stamps == ["preflight=judged"] * 12
    assert 1 <= most <= NUM_TURNS


def test_no_submission_of_many_takes_longer_than_one_check_may(site):
    """Every check hangs: who has a turn is ended, and who waits for one passes before that."""
    path = site.folder / "cli_filter.lua"
    path.write_text(re.sub(r"TIMEOUT_S = \d+", "TIMEOUT_S = 4", path.read_text()))
    site.helper("sh -c 'sleep 60'")
    number = 3 * NUM_TURNS
    took, stamps = burst(site, number)

    assert set(stamps) == {"preflight=not-judged,timeout", "preflight=not-judged,busy"}
    assert stamps.count("preflight=not-judged,timeout") <= NUM_TURNS
    assert max(took) < 2 * 4  # waiting for the turn of another would be 8


@pytest.mark.parametrize("version", VERSIONS)
def test_a_process_that_does_not_know_itself_does_not_wait(tmp_path, turns, version, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    guard = LuaGuard(filled("cli_filter.lua", HELPER=JUDGES), version)
    guard.lua.execute(
        "local real = io.open\nio.open = function(name, mode)"
        " if not name:find('^/proc') then return real(name, mode) end end"
    )
    options = guard.lua.table_from({"type": "sbatch", "json": '{"gpus":"2","wrap":"python x.py"}'})

    assert guard.lua.globals().slurm_cli_pre_submit(options, 0) == 0
    assert options["extra"] == "preflight=judged"


def test_what_the_check_starts_does_not_hold_its_turn(tmp_path):
    (tmp_path / "request.json").write_text(
        '{"program":"sbatch","options":{"gpus":"2","wrap":"torchrun train.py","argv":[]}}'
    )
    program = tmp_path / "sinfo"
    program.write_text(f"#!/bin/sh\nls -l /proc/self/fd >{tmp_path}/seen\n")
    program.chmod(0o755)
    words = 'exec 9>>turn0; exec "$1" -m preflight.commands.guard_helper request.json'
    done = subprocess.run(
        ["sh", "-c", words, "sh", sys.executable],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    seen = (tmp_path / "seen").read_text()

    assert " 1 -> " in seen and " 9 -> " not in seen

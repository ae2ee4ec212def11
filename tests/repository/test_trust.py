"""Nobody's code and settings but the caller's own and root's: hostile files of another user, met by real processes."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from toy import HOOKS, WORKER, launch
from two_users import ATTACKER, ROOT, VICTIM

READ = """\
import json, sys
from preflight.trust import NotTrusted, read_trusted
said = {}
for path in sys.argv[1:]:
    try:
        said[path] = read_trusted(path).decode()
    except NotTrusted as distrust:
        said[path] = "no: " + distrust.reason
    except OSError as error:
        said[path] = "error: " + error.strerror
print(json.dumps(said))
"""

HOSTILE = 'guard = "enforce"\nhooks = [".x.py"]\n[plan]\nseq_len = 4096\n[policy]\nrefuse = ["fits", "tight", "unknown", "does_not_fit"]\n'


def readings(machine, user: int, *paths: Path, **variables: str) -> list[str]:
    words = [str(path) for path in paths]
    done = machine.run(user, sys.executable, "-c", READ, *words, cwd=machine.root, **variables)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return [said[word] for word in words]


def hostile(machine, folder: Path) -> Path:
    """Write an attacker's settings and hooks into a folder, hooks of both kinds."""
    machine.write(ATTACKER, folder / "preflight.toml", HOSTILE)
    machine.write(ATTACKER, folder / ".x.py", machine.hostile_code)
    machine.write(ATTACKER, folder / "preflight_hooks.py", machine.hostile_code)
    return folder


def project(machine, owner: int, folder: Path) -> Path:
    """Write a launch of somebody's own into a folder."""
    machine.write(owner, folder / "worker.py", WORKER)
    return folder


CHECK = ["check", "--device", "tiny:8", "--", *launch(1)]


# The rule


@pytest.mark.parametrize(
    ("owner", "mode", "folder_owner", "folder_mode", "said"),
    [
        (VICTIM, 0o644, VICTIM, 0o755, "mine"),
        (VICTIM, 0o600, VICTIM, 0o700, "mine"),
        (ROOT, 0o644, ROOT, 0o755, "mine"),
        (ROOT, 0o644, VICTIM, 0o755, "mine"),
        (VICTIM, 0o644, ROOT, 0o755, "mine"),
        (ATTACKER, 0o644, VICTIM, 0o755, "belongs to user 64002"),
        (VICTIM, 0o644, ATTACKER, 0o755, "belongs to user 64002"),
        (VICTIM, 0o646, VICTIM, 0o755, "everybody may write"),
        (VICTIM, 0o644, VICTIM, 0o757, "everybody may write"),
        (ROOT, 0o644, ROOT, 0o1777, "everybody may write"),
        (VICTIM, 0o664, VICTIM, 0o755, "group 64001 may write"),
        (VICTIM, 0o644, VICTIM, 0o775, "group 64001 may write"),
    ],
)
def test_file_and_folder_are_the_callers_or_roots_alone(
    machine, owner, mode, folder_owner, folder_mode, said
):
    folder = machine.folder(folder_owner, "place", folder_mode)
    path = machine.write(owner, folder / "file", "mine", mode)

    (found,) = readings(machine, VICTIM, path)
    assert said in found, found


def test_root_obeys_no_user_whoever_called_sudo(machine):
    path = machine.write(VICTIM, machine.homes[VICTIM] / "file", "hers")

    (found,) = readings(machine, ROOT, path, SUDO_UID=str(VICTIM), SUDO_USER="victim")
    assert found.startswith("no: ")


def test_a_group_that_is_the_users_own_is_nobody_else(machine):
    """Where umask is 002, each user has a group of the same name; root's is one. Group bits of an access list are not."""
    folder = machine.folder(ROOT, "place")
    own = machine.write(ROOT, folder / "own", "mine", 0o664)
    daemons = machine.write(ROOT, folder / "daemons", "mine", 0o664)
    os.chown(daemons, ROOT, 1)
    listed = machine.write(ROOT, folder / "listed", "mine", 0o664)
    entry = struct.Struct("<HHI").pack
    no_id = 0xFFFFFFFF
    entries = [(1, 6, no_id), (2, 6, ATTACKER), (4, 4, no_id), (16, 6, no_id), (32, 4, no_id)]
    try:
        os.setxattr(
            listed,
            "system.posix_acl_access",
            struct.pack("<I", 2) + b"".join(entry(*one) for one in entries),
        )
    except OSError:
        listed = daemons  # a file system without access lists

    found = readings(machine, ROOT, own, daemons, listed)
    assert found[0] == "mine"
    assert "may write" in found[1] and "may write" in found[2]


def test_links_lead_only_through_folders_that_are_trusted_too(machine):
    home = machine.homes[VICTIM]
    real = machine.write(VICTIM, machine.folder(VICTIM, f"{home.name}/real") / "file", "mine")
    fair, foul, theirs, loop = (home / name for name in ("fair", "foul", "theirs", "loop"))
    fair.symlink_to(real)
    middle = machine.scratch / "middle"
    middle.symlink_to(real)
    os.chown(middle, ATTACKER, ATTACKER, follow_symlinks=False)
    foul.symlink_to(middle)
    theirs.symlink_to(real)
    os.chown(theirs, ATTACKER, ATTACKER, follow_symlinks=False)
    loop.symlink_to(loop)
    for link in (fair, foul, loop):
        os.chown(link, VICTIM, VICTIM, follow_symlinks=False)

    found = readings(machine, VICTIM, fair, foul, theirs, loop)
    assert found[0] == "mine"
    assert found[1].startswith("no: everybody may write")
    assert found[2].startswith("no: ") and "belongs to" in found[2]
    assert found[3].startswith("error: ")


def test_what_is_no_regular_file_or_far_too_long_is_not_read(machine):
    home = machine.homes[VICTIM]
    os.mkfifo(home / "fifo")
    os.chown(home / "fifo", VICTIM, VICTIM)
    long = machine.write(VICTIM, home / "long", "")
    os.truncate(long, 100 * 1024**2)

    fifo, folder, length = readings(machine, VICTIM, home / "fifo", home, long)
    assert fifo == folder == "error: is no regular file"
    assert length.startswith("error: has 104,857,600 bytes")


def test_what_the_caller_names_is_trusted_with_all_below_and_a_list_only_if_it_is_the_callers(
    machine,
):
    team = machine.folder(ATTACKER, "team/deep", 0o777)
    path = machine.write(ATTACKER, team / "file", "theirs")
    config = machine.folder(VICTIM, f"home-{VICTIM}/.config")
    machine.folder(VICTIM, config / "preflight")

    def found(**variables: str) -> str:
        return readings(machine, VICTIM, path, **variables)[0]

    assert found().startswith("no: ")
    assert found(PREFLIGHT_TRUST=str(machine.root / "team")) == "theirs"
    assert found(PREFLIGHT_TRUST=f"/elsewhere:{team}") == "theirs"
    assert found(PREFLIGHT_TRUST=str(machine.root / "tea")).startswith("no: ")
    assert found(PREFLIGHT_TRUST="team:..:").startswith("no: ")
    listed = machine.write(VICTIM, config / "preflight" / "trust", f"# ours\n{team}\n")
    assert found() == "theirs"
    os.chown(listed, ATTACKER, ATTACKER)
    assert found().startswith("no: ")


# Settings and hooks of another user (attack A2)


@pytest.mark.parametrize("user", [VICTIM, ROOT])
def test_settings_of_somebody_in_a_parent_are_named_and_not_obeyed(machine, user):
    hostile(machine, machine.scratch)
    own = project(machine, user, machine.folder(user, "scratch/own/proj"))
    machine.folder(user, "scratch/own")

    done = machine.preflight(user, *CHECK, cwd=own)

    assert machine.ran_as == []
    assert "4096" not in done.stdout
    note = f"note: {machine.scratch}/preflight.toml is left alone: everybody may write {machine.scratch}"
    assert note in done.stdout, done.stdout + done.stderr
    assert f"PREFLIGHT_TRUST={machine.scratch}" in done.stdout


@pytest.mark.parametrize("user", [VICTIM, ROOT])
def test_a_strangers_folder_has_no_say_and_ends_the_search(machine, user):
    """The launch starts in the attacker's folder; above it lie the user's own settings, which hold there no more."""
    above = machine.folder(user, "mine")
    machine.write(user, above / "preflight.toml", 'device = "h100-sxm-80"\n')
    theirs = hostile(machine, project(machine, ATTACKER, machine.folder(ATTACKER, "mine/theirs")))

    done = machine.preflight(user, "check", "--", *launch(1), cwd=theirs)

    assert machine.ran_as == []
    said = done.stdout + done.stderr
    assert "H100" not in said
    assert said.count("is left alone") >= 1, said


def test_every_command_that_takes_hooks_leaves_those_of_others_alone(machine):
    theirs = hostile(machine, project(machine, ATTACKER, machine.folder(ATTACKER, "theirs")))
    machine.write(ATTACKER, theirs / "run.sh", "#!/bin/sh\ntorchrun --nproc_per_node 2 worker.py\n")
    commands = [
        ["hooks"],
        ["scan"],
        ["size", "Qwen/Qwen3-0.6B"],
        ["guard"],
        ["fix", "--", *launch(1)],
        ["run", "--", *launch(1)],
        ["init", "--repo", "--print"],
        ["slurm", "audit", "run.sh"],
        ["trace", "--", *launch(1)],
    ]
    for user in (VICTIM, ROOT):
        for command in commands:
            done = machine.preflight(user, *command, cwd=theirs)
            said = done.stdout + done.stderr
            if command[0] in ("hooks", "scan", "size", "guard"):
                assert "is left alone" in said, (command, said)
            assert machine.ran_as == [], (user, command)


def test_a_hook_of_somebody_that_ones_own_settings_name_is_left_alone(machine):
    own = project(machine, VICTIM, machine.folder(VICTIM, "own"))
    machine.write(VICTIM, own / "preflight_hooks.py", HOOKS)
    machine.write(ATTACKER, machine.scratch / "shared.py", machine.hostile_code)
    machine.write(VICTIM, own / "preflight.toml", 'hooks = ["../scratch/shared.py"]\n')

    done = machine.preflight(VICTIM, *CHECK, cwd=own)

    assert machine.ran_as == []
    assert done.returncode == 0, done.stderr
    assert "shared.py is left alone" in done.stdout


def test_ones_own_settings_and_hooks_hold_as_before_and_roots_hold_for_everybody(machine):
    own = project(machine, VICTIM, machine.folder(VICTIM, "own"))
    machine.write(VICTIM, own / "preflight_hooks.py", HOOKS + machine.hostile_code)
    site = machine.folder(ROOT, "site")
    machine.write(ROOT, site / "preflight.toml", 'device = "h100-sxm-80"\n')
    below = project(machine, VICTIM, machine.folder(VICTIM, "site/own"))
    machine.write(VICTIM, below / "preflight_hooks.py", HOOKS)

    assert "left alone" not in machine.preflight(VICTIM, *CHECK, cwd=own).stdout
    assert machine.ran_as == [f"ran-as-{VICTIM}"]
    assert "H100" in machine.preflight(VICTIM, "check", "--", *launch(1), cwd=below).stdout


def test_bytecode_beside_a_hook_is_not_run(machine):
    own = project(machine, VICTIM, machine.folder(VICTIM, "own"))
    hook = machine.write(VICTIM, own / "preflight_hooks.py", HOOKS)
    cache = machine.folder(ATTACKER, "own/__pycache__")
    write = (
        "import importlib._bootstrap_external as b, os, sys\n"
        f"code = compile({machine.hostile_code!r}, 'x', 'exec')\n"
        f"status = os.stat({str(hook)!r})\n"
        f"name = {str(cache)!r} + '/preflight_hooks.' + sys.implementation.cache_tag + '.pyc'\n"
        "data = b._code_to_timestamp_pyc(code, int(status.st_mtime), status.st_size)\n"
        "open(name, 'wb').write(data)\n"
    )
    assert machine.run(ATTACKER, sys.executable, "-c", write, cwd=cache).returncode == 0
    assert list(cache.iterdir())

    machine.preflight(VICTIM, *CHECK, cwd=own)
    assert machine.ran_as == []


def test_pyproject_of_somebody_is_named_only_where_it_has_a_table_for_us(machine):
    own = project(machine, VICTIM, machine.folder(VICTIM, "scratch/own"))
    path = machine.scratch / "pyproject.toml"
    machine.write(ATTACKER, path, '[project]\nname = "x"\n')
    quiet = machine.preflight(VICTIM, *CHECK, cwd=own)
    machine.write(ATTACKER, path, '[tool.preflight]\nguard = "enforce"\n')
    named = machine.preflight(VICTIM, *CHECK, cwd=own)

    assert "left alone" not in quiet.stdout + quiet.stderr
    assert "pyproject.toml is left alone" in named.stdout + named.stderr


def test_the_check_of_a_step_says_what_it_left_alone_and_nothing_where_nothing_is_launched(machine):
    theirs = hostile(machine, project(machine, ATTACKER, machine.folder(ATTACKER, "theirs")))
    words = (sys.executable, "-m", "preflight.slurm.step_check", str(machine.root))
    step = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0"}
    done = machine.run(VICTIM, *words, *launch(1), cwd=theirs, **step)
    other = machine.run(VICTIM, *words, "hostname", cwd=theirs, **step)

    assert done.returncode == other.returncode == 0
    assert done.stderr.count("note: ") == done.stderr.count("is left alone") >= 1, done.stderr
    assert other.stderr == "" and machine.ran_as == []


# Copies in .preflight/

COPY = """\
import os, sys
from preflight.errors import BadInput
from preflight.rewrite import Rewrite, RewrittenFile, save_rewrite
os.umask(0o002)
try:
    save_rewrite(Rewrite((), (RewrittenFile("a.yaml", os.path.abspath(".preflight/a.yaml"), "", "b"),)))
except BadInput as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("kind", ["strangers", "open", "own", "new", "trusted"])
def test_a_copy_that_is_started_lies_where_nobody_else_may_write(machine, kind):
    own = machine.folder(VICTIM, "own")
    place = own / ".preflight"
    if kind in ("strangers", "trusted"):
        machine.folder(ATTACKER, place, 0o777)
    elif kind == "open":
        machine.folder(ROOT, place, 0o1777)
    elif kind == "own":
        machine.folder(VICTIM, place, 0o775)
    trust = {"PREFLIGHT_TRUST": str(own)} if kind == "trusted" else {}
    done = machine.run(VICTIM, sys.executable, "-c", COPY, cwd=own, **trust)

    if kind in ("strangers", "open"):
        assert done.returncode == 1 and "is no place for a copy that is started" in done.stderr
        assert list(place.iterdir()) == []
        return
    assert done.returncode == 0, done.stderr
    assert (place / "a.yaml").read_text() == "b"
    if kind != "trusted":
        assert (place.stat().st_mode | (place / "a.yaml").stat().st_mode) & 0o022 == 0


@pytest.mark.parametrize("env", [{}, {"PYTHONPATH": os.pathsep}], ids=["-m", "an empty PYTHONPATH"])
def test_modules_of_the_folder_of_a_launch_are_not_imported(env, tmp_path):
    """`python -m` puts the working folder in front of every library."""
    for name in ("yaml", "pluggy", "rich", "json", "click"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\n")
    (tmp_path / "train.py").write_text("import yaml\n")
    words = ["check", "--device", "h100-sxm-80", "--", "python", "train.py"]
    done = subprocess.run(
        [sys.executable, "-m", "preflight", *words],
        cwd=tmp_path,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )

    assert done.returncode in (0, 1), done.stderr
    assert not (tmp_path / "ran").exists()

"""Plain `torchrun`, `python train.py` and `accelerate` with preflight installed read nothing of a stranger (attack A2)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from toy import HOOKS, launch
from two_users import ATTACKER, ROOT, VICTIM

BIN = Path(sys.executable).parent
TORCHRUN = [str(BIN / "torchrun"), "--nproc_per_node", "1", "train.py"]
TRAIN = 'import torch\nopen("trained", "w").close()\n'
ENFORCE = 'guard = "enforce"\nhooks = [".x.py"]\n[policy]\nrefuse = ["does_not_fit", "tight"]\n'


def attacked(machine, user: int) -> Path:
    """Return a folder of a user, below one where an attacker has left settings that ask for a guard."""
    machine.write(ATTACKER, machine.scratch / "preflight.toml", ENFORCE)
    machine.write(ATTACKER, machine.scratch / ".x.py", machine.hostile_code)
    own = machine.folder(user, f"scratch/{user}/proj")
    machine.folder(user, f"scratch/{user}")
    machine.write(user, own / "train.py", TRAIN)
    return own


@pytest.mark.launch
@pytest.mark.parametrize("user", [VICTIM, ROOT])
def test_torchrun_below_a_folder_of_everybody_trains_as_without_us(machine, user):
    own = attacked(machine, user)
    done = machine.run(user, *TORCHRUN, cwd=own)

    assert done.returncode == 0, done.stderr
    assert (own / "trained").exists()
    assert machine.ran_as == []
    assert "preflight" not in done.stderr


@pytest.mark.launch
def test_torchrun_in_a_strangers_folder_runs_no_hook_even_where_the_user_asks_for_the_guard(
    machine,
):
    theirs = machine.folder(ATTACKER, "theirs")
    machine.write(ATTACKER, theirs / "preflight.toml", ENFORCE)
    machine.write(ATTACKER, theirs / ".x.py", machine.hostile_code)
    machine.write(ATTACKER, theirs / "preflight_hooks.py", machine.hostile_code)
    script = machine.write(VICTIM, machine.homes[VICTIM] / "train.py", "import torch\n")
    words = [*TORCHRUN[:-1], str(script)]

    quiet = machine.run(VICTIM, *words, cwd=theirs)
    asked = machine.run(VICTIM, *words, cwd=theirs, PREFLIGHT="enforce")

    assert quiet.returncode == asked.returncode == 0, asked.stderr
    assert "preflight" not in quiet.stderr
    assert "preflight.toml is left alone" in asked.stderr
    assert "preflight_hooks.py is left alone" in asked.stderr
    assert machine.ran_as == []


@pytest.mark.launch
def test_ones_own_settings_and_hooks_still_guard_torchrun(machine):
    own = machine.folder(VICTIM, "own")
    machine.write(VICTIM, own / "worker.py", TRAIN)
    machine.write(VICTIM, own / "preflight.toml", f'device = "tiny:0.05"\n{ENFORCE}')
    hooks = HOOKS.replace("argv[2::2], command.argv[3::2]", "argv[4::2], command.argv[5::2]")
    machine.write(VICTIM, own / ".x.py", hooks + machine.hostile_code)
    words = [*TORCHRUN[:-1], "worker.py", *launch(4)[2:]]
    done = machine.run(VICTIM, *words, cwd=own)

    assert done.returncode == 78, done.stderr
    assert machine.ran_as == [f"ran-as-{VICTIM}"]
    assert not (own / "trained").exists()


SEEN = """\
import json, sys
sys.orig_argv = ["python", "train.py"]
opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == "open" else None)
from preflight.embedded import guard_doors
guard_doors.at_startup()
print(json.dumps(opened))
"""


def test_the_file_at_start_up_opens_nothing_of_a_stranger(machine):
    own = attacked(machine, VICTIM)
    done = machine.run(VICTIM, sys.executable, "-c", SEEN, cwd=own)
    opened = json.loads(done.stdout)

    assert any(path.endswith("train.py") for path in opened)
    assert not any(path.startswith(str(machine.scratch / "preflight")) for path in opened)
    assert not any("preflight.toml" in path for path in opened)
    assert machine.ran_as == []

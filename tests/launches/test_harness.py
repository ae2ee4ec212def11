"""The probe tells a sharded training from what only looks like one."""

from __future__ import annotations

import pytest
from cases import Case

pytestmark = pytest.mark.launch


def test_without_the_patch_a_sharded_launch_is_two_trainings_and_exits_0(preflight, workplace):
    """Why no test here believes an exit code: accelerate has no distributed type for CPU ranks.

    There even is a process group of two, which nothing uses.
    """
    command = Case("fsdp2.yaml", "train_loop.py").command(workplace)
    launched = preflight.start(command, cpu_ranks=False)

    assert launched.exit_code == 0
    assert [rank["rank"] for rank in launched.ranks] == [0, 0]
    assert launched.plan_seen["engine"] == "single"
    assert launched.plan_seen["world_size"] == 1
    assert launched.ranks[0]["losses"] == launched.ranks[1]["losses"]  # both got every sample


def test_the_launcher_s_own_exit_code_comes_back(preflight, workplace):
    """A worker that exits 7 makes accelerate exit 1: so does preflight, whose process it became."""
    (workplace.path / "train_fails.py").write_text("import sys\nprint('started')\nsys.exit(7)\n")
    command = workplace.command("single.yaml", "train_fails.py", [])
    command += ["--model_name_or_path", "tiny-llama", "--max_length", "128"]
    direct = preflight.start(command)
    checked = preflight.run(command, "tiny:1.9")
    (workplace.path / "train_fails.py").unlink()

    assert (direct.exit_code, direct.stdout) == (1, "started\n")
    assert (checked.exit_code, checked.stdout) == (1, "started\n")
    assert checked.stderr.startswith("preflight: ")

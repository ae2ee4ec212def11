"""A launch that nothing safe makes fit is not started: no worker, no process group, no port."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import Case
from checked_launch import GIB
from harness import is_listening
from ranks import free_port

REFUSED = [
    Case("single.yaml", "train_trainer.py"),
    Case("ddp.yaml", "train_loop.py"),
    Case("fsdp1.yaml", "train_sft.py"),
    Case("fsdp2.yaml", "train_sft.py", "--use_peft"),
    Case("zero3.yaml", "train_trainer.py"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_a_refused_launch_leaves_nothing_behind(case, preflight, workplace):
    """Every Python process writes that it started, whatever becomes of it: there is preflight's only."""
    port = free_port()
    command = replace(case, launcher_arguments=f"--main_process_port {port}").command(workplace)
    smallest = preflight.check(
        command, settings={"micro_batch_size": 1, "activation_checkpointing": "full"}
    )
    # An eighth: what is offloaded to the host leaves activations and gathered layers.
    device = f"tiny:{smallest['estimate']['allocated_peak_bytes'] / 8 / GIB:.6f}"
    launched = preflight.run(command, device)

    assert launched.exit_code == 78, launched.stderr
    assert launched.stdout == ""
    assert launched.stderr.startswith("preflight: does not fit")
    (only,) = launched.processes
    assert only["argv"][1].endswith("preflight")
    assert only["torch_imported"] is False
    assert launched.workers == ()
    assert launched.ranks == ()
    assert launched.left_pids == ()
    assert not is_listening(port)
    assert not (workplace.path / ".preflight").exists()
    assert not (workplace.path / "out").exists()

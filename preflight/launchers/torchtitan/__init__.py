"""torchtitan: its configs, what it makes of them, and writing them back."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher

MODULE = "torchtitan.train"
"""Told by `recognises` alone: in run_train.sh, that Python starts it is the branch of a debugging mode."""
MARKS = ("torchtitan", "--job.config", "run_train.sh")


def _is_named(command: LaunchCommand) -> bool:
    return any(mark in word for word in command.argv for mark in MARKS)


LAUNCHER = Launcher(
    name="torchtitan",
    reader="preflight.launchers.torchtitan.cli:read_torchtitan",
    writer="preflight.launchers.torchtitan.write:write_torchtitan",
    recognises=_is_named,
    ranks_per_node_flag="--nproc-per-node",
    trainer="torchtitan",
    spellings={
        "offload_optimizer": "--training.enable_cpu_offload",
        "seq_len": "--training.seq_len ",
    },
)

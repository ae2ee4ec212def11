"""deepspeed: hosts and slots, and the ranks that it starts on all of them."""

from __future__ import annotations

from preflight.launchers.contract import Launcher

LAUNCHER = Launcher(
    name="deepspeed",
    reader="preflight.launchers.deepspeed.plan:read_deepspeed_launch",
    writer="preflight.writers.launch:write_launch",
    programs=("deepspeed", "deepspeed.pt", "ds"),
    modules=("deepspeed.launcher.runner",),
    guarded_by="startup",
    ranks_per_node_flag="--num_gpus",
    reaches_other_nodes=True,
)

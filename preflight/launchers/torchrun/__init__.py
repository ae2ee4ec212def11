"""torchrun and python -m torch.distributed.run."""

from __future__ import annotations

from preflight.launchers.contract import Launcher

LAUNCHER = Launcher(
    name="torchrun",
    reader="preflight.launchers.torchrun.plan:read_torchrun",
    writer="preflight.writers.launch:write_launch",
    programs=("torchrun",),
    modules=("torch.distributed.run", "torch.distributed.launch"),
    guarded_by="rendezvous",
    ranks_per_node_flag="--nproc-per-node",
    gives_one_thread=True,
    template_engines=("single", "ddp", "zero2", "zero3"),  # Trainer takes DeepSpeed's file
)

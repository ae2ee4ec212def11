"""accelerate launch: its command line, config file and environment."""

from __future__ import annotations

from preflight.launchers.contract import Launcher

LAUNCHER = Launcher(
    name="accelerate",
    reader="preflight.launchers.accelerate.plan:read_accelerate_launch",
    writer="preflight.writers.launch:write_launch",
    programs=("accelerate", "accelerate-launch"),
    modules=("accelerate.commands.launch", "accelerate.commands.accelerate_cli", "accelerate"),
    subcommands=("launch",),
    without_subcommand=("accelerate-launch", "accelerate.commands.launch"),
    trains_nothing=("config", "env", "estimate-memory", "test", "tpu-config", "merge-weights"),
    guarded_by="rendezvous",
    gives_one_thread=True,
    template_engines=("single", "ddp", "fsdp2", "hsdp", "zero2", "zero3"),
)

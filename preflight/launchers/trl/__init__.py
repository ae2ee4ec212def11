"""trl: TRL's training commands, half the script's words and half accelerate's."""

from __future__ import annotations

from preflight.launchers.contract import Launcher

LAUNCHER = Launcher(
    name="trl",
    reader="preflight.launchers.trl.plan:read_trl",
    writer="preflight.writers.launch:write_launch",
    programs=("trl",),
    modules=("trl.cli.main",),
    subcommands=("distillation", "dpo", "grpo", "kto", "reward", "rloo", "sft"),
    trains_nothing=("env", "vllm-serve", "chat"),
    gives_one_thread=True,
)

"""ms-swift: its training commands and scripts, read from release 3.0 on and written back; Megatron-SWIFT is named."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher

COMMANDS = ("sft", "pt", "rlhf")


def _may_be_named(command: LaunchCommand) -> bool:
    first = LAUNCHER.first_argument(command.argv)
    return first is not None or any(
        "swift.cli." in word or "swift/cli/" in word for word in command.argv
    )


LAUNCHER = Launcher(
    name="swift",
    reader="preflight.launchers.swift.cli:read_swift",
    writer="preflight.launchers.swift.write:write_swift",
    programs=("swift", "megatron"),
    modules=("swift.cli.main",),
    subcommands=COMMANDS,
    trains_nothing=(
        *("infer", "merge-lora", "merge_lora", "web-ui", "web_ui", "deploy", "rollout", "sample"),
        *("export", "eval", "app"),
    ),
    recognises=_may_be_named,
    packs_base=False,
    spellings={
        "engine_sleep": "--sleep_level 1",
        "lora": "--tuner_type lora --lora_rank 16 --lora_alpha 32 --target_modules all-linear",
        "qlora": "--quant_method bnb --quant_bits 4 --tuner_type lora",
    },
)

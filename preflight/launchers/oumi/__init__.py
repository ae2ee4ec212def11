"""oumi: its trainings with transformers' and TRL's trainers read and written back; its other trainers named."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher

NAME = "oumi"
TRAIN = "train"
STARTS_OTHERS = "distributed"
"""Subcommand that starts torchrun or accelerate with the ranks of the machine."""


def _may_be_ours(command: LaunchCommand) -> bool:
    """Tell whether the words start a training of oumi's: its program, or its module under a launcher."""
    return any(
        word.rpartition("/")[2] == NAME and after in (TRAIN, STARTS_OTHERS)
        for word, after in zip(command.argv, command.argv[1:], strict=False)
    )


LAUNCHER = Launcher(
    name=NAME,
    reader="preflight.launchers.oumi.cli:read_oumi",
    writer="preflight.launchers.oumi.write:write_oumi",
    programs=(NAME,),
    modules=(NAME,),
    subcommands=(TRAIN, STARTS_OTHERS),
    trains_nothing=(
        "analyze", "cache", "chat", "deploy", "env", "eval", "evaluate", "fetch", "infer", "judge", "launch", "quantize",
        "synth", "synthesize",
    ),
    recognises=_may_be_ours,
    spellings={"qlora": "training.use_peft: true, peft.q_lora: true, peft.lora_r: 16", "seq_len": "model.model_max_length: "},
)  # fmt: skip

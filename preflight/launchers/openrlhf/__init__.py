"""OpenRLHF: its SFT, DPO and reward trainers, and the actor of its PPO on Ray, read and written back."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher

TRAINERS = {
    "openrlhf.cli.train_sft": "sft",
    "openrlhf.cli.train_dpo": "dpo",
    "openrlhf.cli.train_rm": "rm",
    "openrlhf.cli.train_kto": "kto",
    "openrlhf.cli.train_kd": "kd",
    "openrlhf.cli.train_prm": "prm",
    "openrlhf.cli.train_ppo": "ppo",
    "openrlhf.cli.train_ppo_ray": "ppo_ray",
}
"""Module -> its trainer; some are of older releases alone."""
READ = ("sft", "dpo", "rm", "ppo_ray")
"""Trainers whose arguments are read; the others are named."""


def trainer_of(word: str) -> str | None:
    """Return the trainer that a module or a script of the package is: openrlhf/cli/train_sft.py; None for others."""
    if word.endswith(".py"):
        word = word.replace("\\", "/").removesuffix(".py").replace("/", ".")
        word = word[word.rfind("openrlhf.cli.") :] if "openrlhf.cli." in word else ""
    return TRAINERS.get(word)


def _may_be_named(command: LaunchCommand) -> bool:
    return any(trainer_of(word) is not None for word in command.argv)


LAUNCHER = Launcher(
    name="openrlhf",
    reader="preflight.launchers.openrlhf.cli:read_openrlhf",
    writer="preflight.launchers.openrlhf.write:write_openrlhf",
    modules=tuple(TRAINERS),
    recognises=_may_be_named,
    spellings={
        "engine_sleep": "--vllm_enable_sleep",
        "seq_len": "--max_len ",
    },
)

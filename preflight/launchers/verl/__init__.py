"""verl: its PPO and SFT trainers with Hydra's overrides, read, and written back as such."""

from __future__ import annotations

from preflight.launch import LaunchCommand
from preflight.launchers.contract import Launcher

TRAINERS = {
    "verl.trainer.main_ppo": "ppo",
    "verl.trainer.main_ppo_sync": "ppo",
    "verl.trainer.fsdp_sft_trainer": "sft",
    "verl.trainer.sft_trainer": "engine",
    "verl.trainer.sft_trainer_ray": "engine",
    "verl.trainer.main": "fork",
}
"""Module -> which configuration it reads; `main` is of a fork (EasyR1), whose keys are others (easy_r1.py)."""


def says_verls_keys(command: LaunchCommand) -> bool:
    """Tell whether a command says which model verl's workers train, as Hydra's override."""
    return any(
        word.lstrip("+").startswith("actor_rollout_ref.model.path=") for word in command.argv
    )


def _may_be_named(command: LaunchCommand) -> bool:
    is_named = any(word.startswith("verl.trainer.") for word in command.argv)
    return is_named or says_verls_keys(command)


LAUNCHER = Launcher(
    name="verl",
    reader="preflight.launchers.verl.cli:read_verl",
    writer="preflight.launchers.verl.write:write_verl",
    modules=tuple(TRAINERS),
    recognises=_may_be_named,
    spellings={
        "engine_share": "actor_rollout_ref.rollout.gpu_memory_utilization=",
        "engine_sleep": "actor_rollout_ref.rollout.free_cache_engine=True",
        "offload_optimizer": "actor_rollout_ref.actor.fsdp_config.offload_policy=True (FSDP2)",
        "seq_len": "data.max_length=",
    },
)

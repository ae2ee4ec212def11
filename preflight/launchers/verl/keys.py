"""The keys of verl's trainers that a plan field is read from and written to, by the same names.

Source: trainer/config/{ppo_trainer,sft_trainer,sft_trainer_engine}.yaml of verl 0.2 to 0.9.1, as Hydra composes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from preflight.formulas.objectives.actor_losses import ACTOR, ROLLOUT

MODEL = "actor_rollout_ref.model"
FSDP = f"{ACTOR}.fsdp_config"

KEYS: Mapping[str, Mapping[str, str]] = {
    "ppo": {
        "activation_checkpointing": f"{MODEL}.enable_gradient_checkpointing",
        "micro_batch_size": f"{ACTOR}.ppo_micro_batch_size_per_gpu",
        "offload_params": f"{FSDP}.offload_policy",
        "offload_optimizer": f"{FSDP}.offload_policy",
        "reshard_after_forward": f"{FSDP}.reshard_after_forward",
        "generation.memory_share": f"{ROLLOUT}.gpu_memory_utilization",
        "generation.sleep": f"{ROLLOUT}.free_cache_engine",
    },
    "sft": {
        "activation_checkpointing": "model.enable_gradient_checkpointing",
        "micro_batch_size": "data.micro_batch_size_per_gpu",
        "seq_len": "data.max_length",
    },
    "engine": {
        "activation_checkpointing": "model.enable_gradient_checkpointing",
        "micro_batch_size": "data.micro_batch_size_per_gpu",
        "offload_params": "engine.offload_policy",
        "offload_optimizer": "engine.offload_policy",
        "reshard_after_forward": "engine.reshard_after_forward",
        "seq_len": "data.max_length",
    },
}
"""Trainer -> plan field, or part of one -> its key.

`sft` moves states to the host by two keys, and under FSDP1 alone. An adapter and the dtype of its base are read and not written:
verl casts one to the other.
"""
TOKENS: Mapping[str, str] = {
    "ppo": f"{ACTOR}.ppo_max_token_len_per_gpu",
    "engine": "data.max_token_len_per_gpu",
}
"""Trainer -> the key of the tokens that fill a micro batch, where they do."""
RING = f"{ACTOR}.ulysses_sequence_parallel_size"
"""The ranks that share each row of an update."""
ROWS_OF_ALL = f"{ACTOR}.ppo_micro_batch_size"
"""The rows of an update's micro batch on all ranks, which goes before that of one GPU."""
SINCE: Mapping[str, str] = {
    f"{FSDP}.offload_policy": "0.4",
    f"{FSDP}.reshard_after_forward": "0.4",
}
"""Key -> the first release whose configuration has it, where 0.2 has not; before, Hydra stops at the word."""

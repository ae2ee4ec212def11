"""The arguments of OpenRLHF's trainers, release by release, and the names that they had before 0.10 put them in sections."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from preflight.launchers.release_rows import ReleaseRows
from preflight.own_tables import table_beside

BEFORE_SECTIONS = {
    "model.model_name_or_path": "pretrain",
    "model.gradient_checkpointing_enable": "gradient_checkpointing",
    "model.gradient_checkpointing_reentrant": "gradient_checkpointing_use_reentrant",
    "model.aux_loss_coef": "aux_loss_coef",
    "model.nll_loss_coef": "nll_loss_coef",
    "ref.model_name_or_path": "ref_pretrain",
    "ref.offload": "ref_offload",
    "data.max_len": "max_len",
    "train.micro_batch_size": "micro_train_batch_size",
    "train.batch_size": "train_batch_size",
    "ds.tensor_parallel_size": "ds_tensor_parallel_size",
    "ds.lora.rank": "lora_rank",
    "ds.lora.alpha": "lora_alpha",
    "ds.lora.dropout": "lora_dropout",
    "ds.lora.target_modules": "target_modules",
    "actor.model_name_or_path": "pretrain",
    "actor.gradient_checkpointing_enable": "gradient_checkpointing",
    "actor.gradient_checkpointing_reentrant": "gradient_checkpointing_use_reentrant",
    "actor.aux_loss_coef": "aux_loss_coef",
    "actor.entropy_coef": "entropy_loss_coef",
    "actor.max_norm": "max_norm",
    "actor.optim": "optim",
    "critic.model_name_or_path": "critic_pretrain",
    "reward.model_name_or_path": "reward_pretrain",
    "reward.remote_url": "remote_rm_url",
    "rollout.batch_size": "rollout_batch_size",
    "rollout.micro_batch_size": "micro_rollout_batch_size",
    "rollout.n_samples_per_prompt": "n_samples_per_prompt",
    "rollout.max_new_tokens": "max_new_tokens",
    "train.agent_func_path": "agent_func_path",
    "train.async_enable": "async_train",
    "train.colocate_actor_ref": "colocate_actor_ref",
    "train.colocate_all": "colocate_all_models",
    "train.dynamic_batch_enable": "use_dynamic_batch",
    "train.enable_ema": "enable_ema",
    "train.max_tokens_per_gpu": "train_max_tokens_per_gpu",
    "rollout.max_tokens_per_gpu": "rollout_max_tokens_per_gpu",
    "algo.advantage.estimator": "advantage_estimator",
    "algo.kl.init_coef": "init_kl_coef",
    "ds.enable_sleep": "deepspeed_enable_sleep",
    "ref_reward_offload": "ref_offload",
}
"""Argument of 0.10 and later -> its name before; the rest of `ds.` lost its section alone. The reference's offload had the
reward model's in its name."""
JOINED = ("actor", "critic", "ref", "reward", "vllm")
"""Sections that were the first words of a name: `actor.num_nodes` was `actor_num_nodes`."""


@lru_cache(maxsize=4)
def rows_of(trainer: str) -> ReleaseRows:
    """Return the arguments of a trainer."""
    table = table_beside(__file__, "arguments.json")
    return ReleaseRows(table[trainer], table["releases"][-1])


def named(trainer: str, name: str, releases: Collection[str]) -> str | None:
    """Return what all of some releases call an argument that the reader knows by its short name; None where one has none."""
    rows = rows_of(trainer)
    return next(
        (
            long
            for long in rows.rows
            if short(long) == name and all(rows.has(long, each) for each in releases)
        ),
        None,
    )


def short(name: str) -> str:
    """Return an argument's name as it was before the sections, which is how the reader knows it."""
    section, dot, rest = name.partition(".")
    if dot and section in JOINED:
        return BEFORE_SECTIONS.get(name, f"{section}_{rest}")
    return BEFORE_SECTIONS.get(name, name.removeprefix("ds."))

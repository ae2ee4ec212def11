"""The arguments of OpenRLHF's trainers, release by release, and the names that they had before 0.10 put them in sections."""

from __future__ import annotations

from functools import lru_cache

from preflight.launchers.release_rows import ReleaseRows
from preflight.own_tables import beside, read_table

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
}
"""Argument of 0.10 and later -> its name before; the rest of `ds.` lost its section alone."""


@lru_cache(maxsize=4)
def rows_of(trainer: str) -> ReleaseRows:
    """Return the arguments of a trainer."""
    table = read_table(beside(__file__, "arguments.json"))
    return ReleaseRows(table[trainer], table["releases"][-1])


def short(name: str) -> str:
    """Return an argument's name as it was before the sections, which is how the reader knows it."""
    return BEFORE_SECTIONS.get(name, name.removeprefix("ds."))

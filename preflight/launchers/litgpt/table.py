"""litgpt's options, their defaults, and the models that its names stand for: what its own parser said."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from preflight.own_tables import table_beside

KEYS: Mapping[str, str] = {
    "micro_batch_size": "train.micro_batch_size",
    "seq_len": "train.max_seq_length",
}
"""Plan field -> its option. An evaluation takes the micro batch of the training."""

litgpt_table = partial(table_beside, __file__, "table.json")
"""Gives version, commands (option -> default), models (name -> id on the Hub) and their block_sizes (id -> tokens)."""


def options_of(command: str) -> Mapping[str, Any]:
    """Return the options of a training command with their defaults, `train.micro_batch_size` for a nested one."""
    options: Mapping[str, Any] = litgpt_table()["commands"][command]
    return options


def model_named(name: str) -> str | None:
    """Return the model on the Hub that one of litgpt's own names stands for."""
    model: str | None = litgpt_table()["models"].get(name)
    return model


def block_size_of(model: str) -> int | None:
    """Return the tokens of the longest row that litgpt's own model of a hub id takes; None where it has none."""
    block_size: int | None = litgpt_table()["block_sizes"].get(model)
    return block_size

"""The options of litgpt's training commands that a plan field is read from and written to, by the same names."""

from __future__ import annotations

from collections.abc import Mapping

KEYS: Mapping[str, str] = {
    "micro_batch_size": "train.micro_batch_size",
    "seq_len": "train.max_seq_length",
}
"""Plan field -> its option. An evaluation takes the micro batch of the training."""

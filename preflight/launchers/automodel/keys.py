"""The keys of a recipe of Automodel's that a plan field is read from and written to, by the same names.

Source: components/distributed/config.py and recipes/_dist_{setup,utils}.py of nemo-automodel 0.4.0 to 0.7.0.
"""

from __future__ import annotations

from collections.abc import Mapping

KEYS: Mapping[str, str] = {
    "activation_checkpointing": "distributed.activation_checkpointing",
    "engine": "distributed.strategy",
    "micro_batch_size": "step_scheduler.local_batch_size",
    "optimizer": "optimizer.fused",
    "reshard_after_forward": "distributed.reshard_after_forward",
    "seq_len": "dataset.seq_length",
    "sync_each_batch": "distributed.defer_fsdp_grad_sync",
}
"""Plan field -> its key."""
WORDS: Mapping[str, Mapping[object, object]] = {
    "activation_checkpointing": {"full": True, "none": False, "selective_op": "selective"},
    "engine": {"fsdp2": "fsdp2"},
    "optimizer": {"adamw_torch_fused": True},
    "sync_each_batch": {True: False, False: True},
}
"""Plan field -> what its values are called."""
SINCE: Mapping[str, str] = {"distributed.reshard_after_forward": "0.5"}
"""Key -> the first release that has it, where 0.4 has not."""
OLDEST = "0.4"
"""Before, `distributed` named a class of its own."""

"""What changed in which release of litgpt."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "litgpt"

SHARDS_LORA_BY_FSDP2 = Boundary(
    _NAME,
    "0.5.11",
    "finetune_lora shards by FSDP2; before, by FSDP1 as finetune_full does",
    "finetune/lora.py:157 ModelParallelStrategy (0.5.11), FSDPStrategy (0.5.10)",
    "0.5.13",
)

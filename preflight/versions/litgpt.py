"""What changed in which release of litgpt."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "litgpt"

ASKS_FOR_NEWER_BITSANDBYTES = Boundary(
    _NAME,
    "0.5.5",
    "it asks for bitsandbytes 0.44 or newer; before, for 0.42.0",
    "Requires-Dist: bitsandbytes==0.42.0 in 0.4.2 to 0.5.4, <0.44.2,>=0.44.0 in 0.5.5, <0.50,>=0.45.2 in 0.5.13",
    "0.5.13",
)
SHARDS_LORA_BY_FSDP2 = Boundary(
    _NAME,
    "0.5.11",
    "finetune_lora shards by FSDP2; before, by FSDP1 as finetune_full does",
    "finetune/lora.py:157 ModelParallelStrategy (0.5.11), FSDPStrategy (0.5.10)",
    "0.5.13",
)

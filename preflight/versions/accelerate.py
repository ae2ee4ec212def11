"""What changed in which release of accelerate."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "accelerate"

ZERO3_IS_ON_WITHOUT_INIT = Boundary(
    _NAME,
    "1.0",
    "Accelerator tells transformers of ZeRO-3 whatever zero3_init_flag says; before only where that is true",
    "utils/dataclasses.py:1273 (1.0.0), and 1167 (0.34.2), 897 (0.28.0) before",
    "1.15.0",
)
SAVES_FSDP2 = Boundary(
    _NAME,
    "1.6",
    "what fully_shard sharded is loaded and saved",
    "utils/fsdp_utils.py:101 (1.15.0)",
    "1.15.0",
)
HAS_PARALLELISM_CONFIG = Boundary(
    _NAME,
    "1.10",
    "there is a ParallelismConfig, with cp_size",
    "parallelism_config.py:73 (1.15.0); read in 1.10.0 too",
    "1.15.0",
)

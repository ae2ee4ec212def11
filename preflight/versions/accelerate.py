"""What changed in which release of accelerate."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "accelerate"

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

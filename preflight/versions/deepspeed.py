"""What changed in which release of DeepSpeed."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "deepspeed"

KEEPS_STATES_IN_BF16 = Boundary(
    _NAME,
    "0.18.3",
    "the config has bf16_master_weights_and_grads and bf16_optimizer_states",
    "runtime/precision_config.py:63 (0.19.8); 0.18.2 has neither",
    "0.19.8",
)
REFUSES_REMOVED_KEYS = Boundary(
    _NAME,
    "0.19.8",
    "keys that were removed stop a run; an older release may still take them",
    "seen to stop a run of 0.19.8",
)

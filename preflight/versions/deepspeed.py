"""What changed in which release of DeepSpeed."""

from __future__ import annotations

from functools import partial

from preflight.versions.boundary import Boundary

_since = partial(Boundary, "deepspeed")

MOVES_GRADIENTS = _since(
    "0.16.5",
    "whoever moves stage 3's states to the host between updates moves gradients too",
    "runtime/zero/stage3.py offload_states (0.19.8); openrlhf/utils/deepspeed/deepspeed_utils.py offload_deepspeed_states asks"
    " for them from 0.16.5 on, and not before (0.6.4 to 0.11.2)",
    "0.19.8",
)
KEEPS_STATES_IN_BF16 = _since(
    "0.18.3",
    "the config has bf16_master_weights_and_grads and bf16_optimizer_states",
    "runtime/precision_config.py:63 (0.19.8); 0.18.2 has neither",
    "0.19.8",
)
REFUSES_REMOVED_KEYS = _since(
    "0.19.8",
    "keys that were removed stop a run; an older release may still take them",
    "seen to stop a run of 0.19.8",
)

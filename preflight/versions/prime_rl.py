"""What changed in which release of prime-rl."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "prime_rl"

SAVES_BY_DEFAULT = Boundary(
    _NAME,
    "0.7.0",
    "layers are compiled and checkpointed, their inputs and optimizer states wait on the host; before, where something says so",
    "configs/trainer.py ModelConfig: compile, ac, ac_offloading, optim_cpu_offload (tags v0.6.0 and v0.7.0)",
    "0.8.0",
)
FUSES_ADAMW = Boundary(
    _NAME,
    "0.8.1",
    "AdamW is fused where its states stay on the card; before, torch's default, one kernel for many tensors",
    "trainer/optim/__init__.py _create_optimizer (November 2026, which calls itself 0.8.0), trainer/optim.py:158 (tag v0.8.0)",
)

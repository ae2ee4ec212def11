"""What changed in which release of PEFT."""

from __future__ import annotations

from preflight.versions.boundary import Boundary

_NAME = "peft"

CONVERTS_EXPERT_NAMES = Boundary(
    _NAME,
    "0.19",
    "names of an expert's linear layers are turned into those of the fused parameters",
    "utils/transformers_weight_conversion.py",
    "0.21.2",
)
SAVES_BY_MODULE_NAMES = Boundary(
    _NAME,
    "0.21",
    "an adapter's tensors are saved by the names of their modules too; before, by those of the tensors alone",
    "an adapter under FSDP1 saved empty by 0.21, whole by 0.20",
    "0.21.2",
)

"""PF4xx: precision, attention, quantization, PEFT, the loss and the optimizer."""

from __future__ import annotations

from preflight.findings import training_adapter, training_arguments, training_precision
from preflight.findings.kind import FindingKind

KINDS: dict[str, FindingKind] = {
    **training_precision.KINDS,
    **training_adapter.KINDS,
    **training_arguments.KINDS,
}

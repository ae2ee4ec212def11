"""PF401, PF402: a precision that the device or the optimizer cannot train in.

PF401  bf16 on a device without it (compute capability below 8.0): torch emulates it, many times
       slower, and counts it as supported (torch/cuda/__init__.py:191, 2.13); before torch did so,
       transformers refused with "Your setup doesn't support bf16/gpu" in every worker
PF402  fp16 mixed precision on trainable weights that are fp16 themselves: the first clip or step
       stops with "Attempting to unscale FP16 gradients" (torch/amp/grad_scaler.py:275, 2.13)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.finding import Finding
from preflight.findings import found
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.precision import precision_of


@hookimpl
def preflight_findings(
    plan: LaunchPlan, model: ModelSpec | None, device: DeviceSpec | None
) -> Iterable[Finding]:
    """Check mixed precision against the device and the weights."""
    origin = plan.origins.get("mixed_precision")
    where = origin.where if origin else ""
    if plan.mixed_precision == "bf16" and device is not None and device.supports_bf16 is False:
        yield found(
            "PF401",
            f"{device.name} has no bf16: torch emulates it slowly, and older versions refuse it",
            where,
            "fp16 with weights loaded in float32, or a device of compute capability 8.0 or newer",
        )
    scaled = plan.mixed_precision == "fp16" and plan.zero_stage is None
    if scaled and model is not None and precision_of(plan, model).trainable == "fp16":
        yield found(
            "PF402",
            "the trainable weights are fp16 and so is mixed precision:"
            " the gradient scaler refuses fp16 gradients at the first step",
            where,
            "load the weights in float32 (dtype=torch.float32)",
        )

"""PF401, PF402, PF408, PF409, PF448: a precision that the device or the optimizer cannot train in, or not well.

PF401  bf16 on a device without it (compute capability below 8.0): torch emulates it, many times
       slower, and counts it as supported (torch/cuda/__init__.py:191, 2.13); before torch did so,
       transformers refused with "Your setup doesn't support bf16/gpu" in every worker
PF402  fp16 mixed precision on trainable weights that are fp16 themselves: the first clip or step
       stops with "Attempting to unscale FP16 gradients" (torch/amp/grad_scaler.py:275, 2.13)
PF408  bf16 weights stepped by AdamW without an fp32 master copy, at a small learning rate: most
       updates are smaller than half of what bf16 can tell apart, and are lost
PF409  a quantized base that computes in fp32, which is bitsandbytes' and TRL's default
PF448  torchtitan's NVFP4 or MXFP8 layers below compute capability 10.0: the converter stops with
       "only supported on SM100 or later architectures" (components/quantization/nvfp4.py, mx.py, 0.3.0)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.precision import precision_of
from preflight.formulas.trainer_arguments import argument, has_trainer, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.unpriced_names import CONVERTED_BY

SMALL_LEARNING_RATE = 1e-4
"""A step of AdamW moves a weight by the learning rate, and bf16 keeps 8 bits: a weight of the usual 0.02
(`initializer_range`) changes only for steps above 0.02 * 2**-9 = 4e-5, most weights for 1e-4."""


IN_4_OR_8_BITS = ("NVFP4", "MXFP8")
"""What torchtitan's converters are called whose kernels Blackwell has first."""
BLACKWELL = (10, 0)


@hookimpl
def preflight_findings(
    plan: LaunchPlan, model: ModelSpec | None, device: DeviceSpec | None
) -> Iterable[Finding]:
    """Check mixed precision against the device, the weights and the optimizer."""
    where = where_of(plan, "mixed_precision")
    if plan.mixed_precision == "bf16" and device is not None and device.supports_bf16 is False:
        yield found(
            "PF401",
            f"{device.name} has no bf16: torch emulates it slowly, and older versions refuse it",
            where,
            "fp16 with weights loaded in float32, or a device of compute capability 8.0 or newer",
        )
    yield from _quantized_compute(plan)
    yield from _converted(plan, device)
    if model is None:
        return
    precision = precision_of(plan, model)
    scaled = plan.mixed_precision == "fp16" and plan.zero_stage is None
    if scaled and precision.trainable == "fp16":
        yield found(
            "PF402",
            "the trainable weights are fp16 and so is mixed precision:"
            " the gradient scaler refuses fp16 gradients at the first step",
            where,
            "load the weights in float32 (dtype=torch.float32)",
            {"load_dtype": "fp32"} if plan.adapter is None else None,
        )
    rate = argument(plan, "learning_rate").value
    is_small = isinstance(rate, float) and 0 < rate < SMALL_LEARNING_RATE
    is_adam = "adamw" in plan.optimizer
    is_pure_bf16 = precision.trainable == "bf16" and precision.master is None
    if is_pure_bf16 and plan.adapter is None and is_adam and is_small:
        yield found(
            "PF408",
            f"AdamW steps bf16 weights that have no fp32 copy: at a learning rate of {rate:g}"
            " most updates round to nothing",
            where_of(plan, "load_dtype"),
            "load the weights in float32 (twice the memory), or FSDP or ZeRO, which keep an fp32 copy",
            {"load_dtype": "fp32"},
        )


def _converted(plan: LaunchPlan, device: DeviceSpec | None) -> Iterable[Finding]:
    capability = None if device is None else device.compute_capability
    if device is None or capability is None or capability >= BLACKWELL:
        return
    for notice in plan.notices:
        name = notice.unpriced.removeprefix(CONVERTED_BY)
        if name != notice.unpriced and any(word in name for word in IN_4_OR_8_BITS):
            yield found(
                "PF448",
                f"{name} refuses {device.name}: it needs compute capability 10.0",
                notice.where,
                "a config without the converter, or a device of compute capability 10.0 or newer",
            )


def _quantized_compute(plan: LaunchPlan) -> Iterable[Finding]:
    quantization = plan.base_quantization
    if quantization is None or quantization.scheme == "int8" or not has_trainer(plan):
        return
    if quantization.compute_dtype == "fp32" and plan.mixed_precision != "no":
        yield found(
            "PF409",
            f"the {quantization.scheme} base computes in fp32, although the rest runs in {plan.mixed_precision}",
            where_of(plan, "load_dtype", "base_quantization"),
            "--dtype bfloat16 for TRL, bnb_4bit_compute_dtype=torch.bfloat16 in a script",
            {"base_quantization.compute_dtype": plan.mixed_precision}
            if plan.mixed_precision in ("bf16", "fp16")
            else None,
        )

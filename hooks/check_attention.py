"""PF410 to PF412: an attention that cannot run as asked, and packing that mixes samples.

PF410  flash attention on a GPU before Ampere, or with heads wider than 256: the kernel stops at the first step
PF411  flash attention with fp32 inputs: "FlashAttention only support fp16 and bf16 data type"
PF412  packed samples that attend to each other, because nothing tells attention where one ends
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.device import DeviceSpec
from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.precision import load_dtype
from preflight.formulas.trainer_arguments import argument, has_trainer, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.versions.transformers import MASKS_PACKED_SAMPLES

WIDEST_FLASH_HEAD = 256
"""flash_attn/csrc/flash_api.cpp:393, 2.8.3."""


@hookimpl
def preflight_findings(
    plan: LaunchPlan, model: ModelSpec | None, device: DeviceSpec | None
) -> Iterable[Finding]:
    """Check the attention that was asked for against device, model and packing."""
    is_flash = (plan.attention or "").startswith("flash")
    if is_flash:
        yield from _device(plan, model, device)
        yield from _dtype(plan, model)
    yield from _packing(plan, is_flash)


def _device(
    plan: LaunchPlan, model: ModelSpec | None, device: DeviceSpec | None
) -> Iterable[Finding]:
    where = where_of(plan, "attention")
    capability = device.compute_capability if device is not None else None
    is_nvidia = device is not None and (device.vendor or "nvidia").lower() == "nvidia"
    if device is not None and is_nvidia and capability and capability < (8, 0):
        yield found(
            "PF410",
            f"{plan.attention} does not run on {device.name}: the kernel wants Ampere or newer",
            where,
            "--attn_implementation sdpa",
            {"attention": "sdpa"},
        )
    widths = [u.layer.head_dim for u in model.units if u.layer is not None] if model else []
    if widths and max(widths) > WIDEST_FLASH_HEAD:
        yield found(
            "PF410",
            f"{plan.attention} takes heads up to {WIDEST_FLASH_HEAD} wide, and these have {max(widths)}",
            where,
            "--attn_implementation sdpa",
            {"attention": "sdpa"},
        )


def _dtype(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    if model is None or plan.mixed_precision != "no" or load_dtype(plan, model) != "fp32":
        return
    if plan.zero_stage is not None or not has_trainer(plan):
        return  # a loop may cast on its own
    yield found(
        "PF411",
        f"{plan.attention} gets fp32: the weights are fp32 and no mixed precision casts them",
        where_of(plan, "attention"),
        "--bf16 true, or --dtype bfloat16",
        {"mixed_precision": "bf16"},
    )


def _packing(plan: LaunchPlan, is_flash: bool) -> Iterable[Finding]:
    packing = argument(plan, "packing")
    if (
        plan.trainer == "trl"
        and packing.is_on
        and argument(plan, "packing_strategy").value == "wrapped"
    ):
        yield found(
            "PF412",
            "packing_strategy wrapped cuts one stream of all samples: a sample attends to those before it,"
            " and is cut wherever a row ends",
            argument(plan, "packing_strategy").where or packing.where,
            "--packing_strategy bfd",
        )
        return
    is_packed = plan.sequence_kind == "packed" and plan.trainer == "trl"
    if not is_packed or is_flash or plan.attention not in ("eager", "sdpa"):
        return
    if not MASKS_PACKED_SAMPLES.holds_in(plan.versions):
        yield found(
            "PF412",
            f"packed samples attend to each other under {plan.attention}: this transformers masks"
            " packed samples for flash attention only",
            where_of(plan, "sequence_kind", "attention"),
            "--attn_implementation flash_attention_2, or a newer transformers",
            {"attention": "flash_attention_2"},
        )

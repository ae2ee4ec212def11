"""PF403, PF404: a frozen base that every rank holds whole, although the launch shards.

PF403  QLoRA under FSDP2 with bitsandbytes' default uint8 storage: accelerate leaves the packed weights
       out of sharding with one warning (accelerate/utils/fsdp_utils.py:789, 1.15.0)
PF404  adapters under ZeRO-1 or ZeRO-2: these stages shard what trains, and the base does not train
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.sharding import shards_quantized_base
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Say where sharding does not reach the frozen base."""
    if plan.adapter is None or plan.world_size == 1:
        return
    origin = plan.origins.get("base_quantization")
    base = plan.base_quantization
    is_packed = base is not None and base.scheme != "int8"
    if plan.engine == "fsdp2" and is_packed and not shards_quantized_base(plan):
        yield found(
            "PF403",
            "FSDP2 leaves a 4-bit base with uint8 storage whole on every rank",
            origin.where if origin else "",
            "--bnb_4bit_quant_storage bfloat16 (bnb_4bit_quant_storage=torch.bfloat16)",
        )
    if plan.engine in ("zero1", "zero2"):
        engine = plan.origins.get("engine")
        yield found(
            "PF404",
            f"ZeRO-{plan.zero_stage} shards what trains: the frozen base is whole on every rank",
            engine.where if engine else "",
            "ZeRO-3 or FSDP shards the base too",
        )

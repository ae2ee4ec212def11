"""PF416 to PF420: a quantized base that trains nothing, cannot be sharded, or is spread over devices.

PF416  a quantized base without adapters: transformers refuses it
PF417  an 8-bit base under FSDP: its weights are integers that FSDP cannot flatten or gather
PF418  a 4-bit base under FSDP1 whose storage dtype is not that of the other weights
PF419  packed 4-bit weights whose storage dtype is another 16-bit dtype than DeepSpeed casts to
PF420  device_map="auto" with a rank per device: accelerate refuses it
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.precision import load_dtype
from preflight.formulas.trainer_arguments import has_trainer, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec

FLOATING = ("fp32", "bf16", "fp16")

SPREADING_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""device_map values that may put a model on several devices (accelerate/utils/modeling.py)."""


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Check how a base is stored against what trains it."""
    yield from _device_map(plan)
    quantization = plan.base_quantization
    if quantization is None:
        return
    where = where_of(plan, "base_quantization")
    if _is_without_adapter(plan):
        yield found(
            "PF416",
            f"a base in {quantization.scheme} without an adapter has nothing to train: transformers refuses it",
            where,
            "--use_peft true, or no quantization",
            {"adapter.rank": 16},
        )
    is_patched = launcher_of(plan).shards_int8_base and plan.engine == "fsdp2"
    if plan.is_fsdp and quantization.scheme == "int8" and not is_patched:
        yield found(
            "PF417",
            "FSDP cannot shard an 8-bit base: its weights are integers",
            where,
            "--load_in_4bit true with --bnb_4bit_quant_storage bfloat16",
            {"base_quantization.scheme": "nf4", "base_quantization.storage_dtype": "bf16"},
        )
    elif plan.engine == "fsdp1" and model is not None:
        loaded = load_dtype(plan, model)
        if quantization.storage_dtype in (None, *FLOATING) and quantization.storage_dtype != loaded:
            storage = quantization.storage_dtype or "uint8"
            yield found(
                "PF418",
                f"FSDP1 flattens weights of one dtype, and the 4-bit weights are {storage} beside {loaded}",
                where,
                f"bnb_4bit_quant_storage of the dtype that the model is loaded in ({loaded})",
                {"base_quantization.storage_dtype": loaded},
            )
    stored, mixed = quantization.storage_dtype, plan.mixed_precision
    is_cast = plan.zero_stage is not None and mixed in ("bf16", "fp16")
    if is_cast and stored in FLOATING and stored != mixed:
        yield found(
            "PF419",
            f"DeepSpeed casts the model to {mixed}, the packed 4-bit weights in {stored} too: their bits change",
            where,
            f"bnb_4bit_quant_storage {mixed}, or none",
            {"base_quantization.storage_dtype": mixed},
        )


def _is_without_adapter(plan: LaunchPlan) -> bool:
    if plan.adapter is not None or not has_trainer(plan):
        return False
    # Somebody's own script may make its adapter where we do not see it; TRL's own does so by its flags.
    return plan.script_facts.is_of_library


def _device_map(plan: LaunchPlan) -> Iterable[Finding]:
    setting = plan.script_facts.device_map
    if setting is None or setting.value not in SPREADING_MAPS:
        return
    if plan.ranks_per_node > 1 and plan.zero_stage != 3:
        yield found(
            "PF420",
            f"device_map {setting.value} spreads the model over the GPUs of every rank, and accelerate"
            " does not train such a model with several ranks",
            setting.place.where,
            "no device_map; each rank then gets its own GPU",
        )

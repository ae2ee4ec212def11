"""PF214, PF215, PF216: a frozen base that FSDP shards into other bits, or cannot flatten with what trains.

PF214  4-bit weights stored as one floating dtype, and mixed precision in another: FSDP casts what it gathers,
       which changes the packed bits. PF419 is the same under DeepSpeed
PF215  fp32 adapters and a 16-bit base in one flat parameter of FSDP1: "Must flatten tensors with uniform dtype"
       (torch/distributed/fsdp/_flat_param.py:814, 2.13). PF418 is the same with a 4-bit base
PF216  adapters in a flat parameter without use_orig_params: "Must flatten tensors with uniform `requires_grad`" (:823)

transformers' Trainer gives trained leaves units of their own (PEFT's fsdp_auto_wrap_policy), so PF215 and PF216
concern loops of one's own.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.precision import load_dtype
from preflight.formulas.trainer_arguments import where_of
from preflight.hookspecs import hookimpl
from preflight.launch import BaseQuantization, LaunchPlan
from preflight.model import ModelSpec

HALF = {"bf16": "bf16", "fp16": "fp16", "fp8": "bf16"}
"""Mixed precision -> the dtype in which FSDP computes."""


@hookimpl
def preflight_findings(plan: LaunchPlan, model: ModelSpec | None) -> Iterable[Finding]:
    """Say what sharding does to a base that does not train."""
    if plan.adapter is None:
        return
    if plan.base_quantization is not None:
        yield from _packed(plan, model, plan.base_quantization)
    elif plan.engine == "fsdp1" and plan.trainer == "plain_loop" and plan.wrap_policy != "none":
        yield from _adapters(plan, _loaded(plan, model))


def _loaded(plan: LaunchPlan, model: ModelSpec | None) -> str | None:
    return plan.load_dtype if model is None else load_dtype(plan, model)


def _packed(plan: LaunchPlan, model: ModelSpec | None, base: BaseQuantization) -> Iterable[Finding]:
    computes, stored = HALF.get(plan.mixed_precision), base.storage_dtype
    is_sharded = base.scheme != "int8" and stored not in (None, "uint8", "int8")
    if plan.engine == "fsdp1" and stored != _loaded(plan, model):
        return  # refused: PF418
    if plan.is_fsdp and is_sharded and computes and stored != computes:
        yield found(
            "PF214",
            f"4-bit weights are stored as {stored}, and FSDP casts what it gathers to {computes}:"
            " the packed bits change, and nothing says so",
            where_of(plan, "base_quantization"),
            f"bnb_4bit_quant_storage in the dtype of mixed precision, {computes}",
            {"base_quantization.storage_dtype": computes},
        )


def _adapters(plan: LaunchPlan, loaded: str | None) -> Iterable[Finding]:
    from preflight.scripts.python.repository_files import repository_text  # reads scripts

    text = repository_text(plan)
    if not text or "auto_wrap_policy" in text:
        return  # PEFT's policy, or one of somebody's own, may set the trained leaves apart
    assert plan.adapter is not None
    where = where_of(plan, "engine")
    adapter_dtype = plan.adapter.dtype or "fp32"
    fix = "accelerator.state.fsdp_plugin.auto_wrap_policy = peft.utils.other.fsdp_auto_wrap_policy(model)"
    if loaded is not None and adapter_dtype != loaded:
        yield found(
            "PF215",
            f"adapters are {adapter_dtype} and their base is {loaded}: FSDP1 flattens one dtype only",
            where,
            f"{fix}, or FSDP2",
        )
    elif not plan.engine_facts.fsdp_uses_orig_params:
        yield found(
            "PF216",
            "adapters train and their base does not: FSDP1 flattens them together only with fsdp_use_orig_params",
            where,
            "fsdp_use_orig_params: true, or fsdp_version: 2",
        )

"""PF311, PF313, PF317, PF318, PF319: what ZeRO's stages and DeepSpeed's optimizers do not go with.

PF311  `auto` that a script with deepspeed.initialize hands to DeepSpeed itself
PF313  "DeepSpeed Zero-3 is not compatible with passing a `device_map`." (transformers/integrations/accelerate.py:137, 5.24.0)
PF317  an optimizer in the DeepSpeed file beats --optim (deepspeed_optim_sched, transformers/integrations/deepspeed.py:577)
PF318  fp32 gradient accumulation in bf16 without ZeRO: "unsupported mix of model_dtype" (deepspeed/runtime/engine.py:2323, 0.19.8)
PF319  offload turns bitsandbytes' AdamW into DeepSpeedCPUAdam with adamw_mode=False (accelerate/utils/deepspeed.py:29, 1.15.0)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.optimizers import EIGHT_BIT
from preflight.formulas.trainer_arguments import argument, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan

ADAMW_8BIT = EIGHT_BIT & {"adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"}
"""AdamW that accelerate does not take for AdamW when it chooses DeepSpeedCPUAdam's mode."""


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Check what is launched against the ZeRO stage and DeepSpeed's own optimizers."""
    if plan.zero_stage is None:
        return
    yield from _unfilled_autos(plan)
    yield from _optimizer(plan)
    yield from _device_map(plan)
    settings = plan.deepspeed
    if (
        plan.engine == "zero0"
        and plan.mixed_precision == "bf16"
        and settings is not None
        and settings.grad_accum_dtype == "fp32"
    ):
        yield found(
            "PF318",
            "grad_accum_dtype fp32 with bf16 needs ZeRO: DeepSpeed refuses the mix at stage 0",
            where_of(plan, "deepspeed"),
            '"stage": 1',
            {"engine": "zero1", "shard_degree": plan.world_size},
        )


def _device_map(plan: LaunchPlan) -> Iterable[Finding]:
    """ZeRO-3 is on for transformers once the trainer's arguments, or an Accelerator, are made: before that it loads."""
    facts = plan.script_facts
    if plan.engine != "zero3" or facts.device_map is None or facts.zero3_is_on_at_load is False:
        return
    is_sure = facts.zero3_is_on_at_load is True
    yield found(
        "PF313",
        f"device_map {facts.device_map.value} under ZeRO-3: transformers refuses it when the model is loaded"
        + ("" if is_sure else ", where the trainer's arguments are made before"),
        facts.device_map.place.where,
        "no device_map: ZeRO-3 places the parameters itself",
        severity=None if is_sure else "warning",
    )


def _optimizer(plan: LaunchPlan) -> Iterable[Finding]:
    chosen = argument(plan, "optim")
    if not chosen.is_given:
        return
    own = plan.engine_facts.deepspeed_optimizer
    if own:
        yield found(
            "PF317",
            f"the DeepSpeed file's optimizer {own} is used, and --optim {chosen.value} is not",
            chosen.where,
            "remove the optimizer block from the DeepSpeed file, or --optim",
        )
        return
    decay = argument(plan, "weight_decay").value
    decays = isinstance(decay, (int, float)) and decay > 0
    if chosen.value in ADAMW_8BIT and plan.optimizer == "deepspeed_cpu_adam" and decays:
        yield found(
            "PF319",
            f"optimizer offload replaces {chosen.value} by DeepSpeedCPUAdam with adamw_mode=False:"
            " weight decay becomes an L2 penalty, in fp32 states",
            chosen.where,
            "--optim adamw_torch, which keeps AdamW's decay",
        )


def _unfilled_autos(plan: LaunchPlan) -> Iterable[Finding]:
    """`auto` is a word of transformers and accelerate: DeepSpeed itself knows no such batch size."""
    autos = plan.engine_facts.deepspeed_autos
    if not autos:
        return
    from preflight.scripts.python.repository_files import repository_text  # reads scripts

    text = repository_text(plan)
    fills = "accelerate" in text or "HfDeepSpeedConfig" in text or "auto" in text
    if "deepspeed.initialize(" not in text or fills:
        return
    for key, place in autos.items():
        is_stage = key.endswith("stage")
        yield found(
            "PF311",
            f"nothing fills the auto of {key}: DeepSpeed "
            + ("drops it and takes stage 0" if is_stage else "compares it with a number and stops"),
            place.where,
            "write the number",
            severity="warning" if is_stage else None,
        )

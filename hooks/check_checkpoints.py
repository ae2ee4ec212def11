"""PF220, PF316: checkpoints that transformers refuses to write under an engine, or that lack what was asked for.

PF220  save_only_model with FSDP's sharded state dict (transformers/trainer.py:912, 5.24.0)
PF316  ZeRO-3 that does not gather its weights to save them (Accelerator.get_state_dict, accelerate 1.15.0)
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.trainer_arguments import argument, where_of
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Hold the trainer's saving arguments against the engine."""
    only_model = argument(plan, "save_only_model")
    if only_model.is_on and plan.is_fsdp and plan.state_dict_type == "sharded":
        yield found(
            "PF220",
            "save_only_model with a sharded state dict: transformers refuses it when the trainer is made",
            only_model.where,
            "fsdp_state_dict_type: FULL_STATE_DICT, or --save_only_model false",
            {"state_dict_type": "full"},
        )
    if (
        plan.engine == "zero3"
        and plan.deepspeed is not None
        and not plan.deepspeed.stage3_gather_16bit_weights_on_model_save
        and plan.adapter is None
        and argument(plan, "save_strategy").value != "no"
    ):
        yield found(
            "PF316",
            "ZeRO-3 does not gather its weights on save: checkpoints hold shards, and no model.safetensors",
            where_of(plan, "deepspeed", "engine"),
            '"stage3_gather_16bit_weights_on_model_save": true, or zero_to_fp32.py afterwards',
            {"deepspeed.stage3_gather_16bit_weights_on_model_save": True},
        )

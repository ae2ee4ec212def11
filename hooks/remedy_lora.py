"""lora: train low-rank adapters on every linear layer and leave the base frozen (Hu et al. 2021).

Saves      gradients and optimizer states of the base; its weights stay, in 16 bits
Costs      a few percent of a step
Safety     changes_training: another method. Dettmers et al. 2023 (QLoRA, section 4) find adapters on
           all linear layers needed to match full fine-tuning on instruction data; on larger data sets
           full fine-tuning can stay ahead (Biderman et al. 2024, "LoRA learns less and forgets less")
Written as --use_peft --lora_r 16 --lora_alpha 32 --lora_target_modules all-linear --dtype bfloat16 (TRL);
           elsewhere `peft.get_peft_model(model, LoraConfig(r=16, lora_alpha=32,
           target_modules="all-linear"))` in the script
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.adapters.adapted_experts import adapts_experts
from preflight.formulas.layers.heads import trains_value_model
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.remedy import SUGGESTED_ADAPTER, Remedy, beside_adapter

TRL_FLAGS = (
    "--use_peft --lora_r 16 --lora_alpha 32 --lora_dropout 0.0"
    " --lora_target_modules all-linear --dtype bfloat16"
)
SCRIPT = "in the script: peft.get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules='all-linear'))"


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Offer LoRA for a full fine-tuning of a decoder."""
    if trains_value_model(plan):
        return  # what is trained is two models: an adapter goes on one of them
    if plan.adapter is not None or not model.layers:
        return
    launcher, is_trl = launcher_of(plan), plan.trainer == "trl"
    taken_out, told = beside_adapter(plan)
    yield Remedy(
        "lora",
        "LoRA, rank 16 on all linear layers",
        {
            "adapter": SUGGESTED_ADAPTER,
            "load_dtype": launcher.frozen_base_dtype("bf16"),
            **taken_out,
        },
        "changes_training",
        how=launcher.spellings.get("lora", TRL_FLAGS if is_trl else SCRIPT),
        notes=(*told, *_about_experts(model)),
    )


def _about_experts(model: ModelSpec) -> tuple[str, ...]:
    if not any(tensor.kind == "experts" for _, tensor in model.tensors()):
        return ()
    if adapts_experts(model):
        return (
            "all-linear adapts every expert too, and builds their merged weights in each forward;"
            " naming the attention projections leaves them out",
        )
    return ("fused experts stay without adapters",)

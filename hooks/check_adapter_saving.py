"""PF223: an adapter that trains under FSDP, of which nothing is saved.

PEFT 0.21 looks for the adapter's tensors under the names that its modules have (`_get_adapter_state_dict` in
peft/tuners/tuners_utils.py), and FSDP collects them under the names that they had before anything was wrapped.
Where FSDP1 wraps a layer, or FSDP's own activation checkpointing does, the two differ: adapter_model.safetensors
and the checkpoints hold no tensor, and nothing says so. The trainer's own checkpointing wraps nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.finding import Finding
from preflight.findings import found
from preflight.formulas.layers.checkpointing import is_launchers_own
from preflight.formulas.trainer_arguments import where_of
from preflight.formulas.user_loop import has_own_model_code
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.versions.peft import SAVES_BY_MODULE_NAMES


@hookimpl
def preflight_findings(plan: LaunchPlan) -> Iterable[Finding]:
    """Name a launch whose adapter would be lost."""
    if plan.adapter is None or not plan.is_fsdp or has_own_model_code(plan):
        return
    if not SAVES_BY_MODULE_NAMES.holds_in(plan.versions) or plan.launcher == "verl":
        return  # verl gathers its adapters itself (utils/fsdp_utils.py layered_summon_lora_params, 0.7.1)
    lost = "PEFT 0.21 finds no tensor of the adapter, and saves an empty one without a word"
    if plan.engine == "fsdp1":
        where = where_of(plan, "engine", "adapter")
        yield found(
            "PF223", f"FSDP1 wraps the layers: {lost}", where, "fsdp_version: 2, or peft<0.21"
        )
    elif is_launchers_own(plan):
        yield found(
            "PF223",
            f"FSDP's own activation checkpointing wraps the layers: {lost}",
            where_of(plan, "activation_checkpointing"),
            "fsdp_activation_checkpointing: false and the trainer's own --gradient_checkpointing true, or peft<0.21",
        )

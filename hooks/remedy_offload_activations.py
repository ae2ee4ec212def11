"""offload_activations: keep what checkpointing saves, the layers' inputs, in host memory.

Saves      every saved layer input but those on their way
Costs      two copies of each over PCIe, hidden behind the work as far as that lasts; as many bytes of pinned
           host memory on every rank
Safety     same: the bytes come back as they went
Written as activation_checkpointing_kwargs {"offload": true} (Trainer from 5.24 on), --activation_offloading true
           (TRL from 0.18 on), activation_offloading: true (axolotl), enable_activation_offloading (torchtune). The
           launcher's fsdp_activation_checkpointing_offload only where its switch checkpoints already
Not under an adapter with axolotl, where it takes recomputation's place, nor with LLaMA-Factory, whose
           use_unsloth_gc forgets the random state of dropout
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.remedy import Remedy
from preflight.trainers.releases import lacked_by
from preflight.versions.transformers import OFFLOADS_ACTIVATIONS


@hookimpl
def preflight_remedies(plan: LaunchPlan) -> Iterable[Remedy]:
    """Move saved layer inputs to the host where layers are checkpointed."""
    if plan.activation_checkpointing != "full" or plan.offload_activations != "none":
        return
    if may_offload(plan):
        yield Remedy(
            "offload_activations",
            "keep saved layer inputs in host memory",
            {"offload_activations": "cpu"},
            "same",
            needs_host=True,
            how="--activation_offloading true (TRL), activation_checkpointing_kwargs {'offload': true} (Trainer)",
        )


def may_offload(plan: LaunchPlan) -> bool:
    """Tell whether the trainer has a switch that leaves recomputation as it is."""
    allowed = launcher_of(plan).offloads_activations
    if allowed != "as_trainer":
        return allowed == "full_training" and plan.adapter is None
    if plan.trainer == "transformers":
        return OFFLOADS_ACTIVATIONS.holds_in(plan.versions)
    return not lacked_by(plan, "activation_offloading", is_likely=True)

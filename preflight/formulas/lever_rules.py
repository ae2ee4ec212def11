"""What several remedies ask of a plan before they offer a change: who trains, with which optimizer, what is installed."""

from __future__ import annotations

from preflight.formulas.precision import Precision, precision_of
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.versions.transformers import IGNORES_SYNC_EACH_BATCH

PLAIN_ADAMW = (
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_hf",
    "adamw_apex_fused",
    "deepspeed_fused_adam",
)
"""Names of one and the same optimizer: AdamW with two states in the dtype that the engine chooses."""


def is_installed(package: str) -> bool:
    """Tell whether a package is in this Python, by its import name."""
    from preflight.versions.installed import installed_versions

    return package in installed_versions((package,))


def syncs_when_asked(plan: LaunchPlan) -> bool:
    """Tell whether the trainer listens to gradient_accumulation_kwargs.sync_each_batch.

    Before 4.46 Trainer accumulates in accelerate's context, which does; from then on it calls no_sync
    itself, and asks again only in newer releases.
    """
    if plan.trainer not in HF_TRAINERS:
        return False
    return not IGNORES_SYNC_EACH_BATCH.holds_in(plan.versions)


def stored(precision: Precision) -> tuple[str, str]:
    """Return the dtypes that training rounds to at every step: of the weights that are updated, and of the states."""
    return precision.master or precision.trainable, precision.optimizer_state


def rounds_alike(before: LaunchPlan, after: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether two plans store what they train in the same dtypes and multiply in the same one."""
    old, new = precision_of(before, model), precision_of(after, model)
    return stored(old) == stored(new) and old.compute == new.compute

"""chunked_loss: take the cross entropy piece by piece, so that whole logits never exist.

Saves      some 12 bytes a token and vocabulary entry, but for one piece of it
Costs      a few percent of a step where pieces of the head are computed twice
Safety     equivalent: the same loss, summed in another order; Liger brings kernels of its own for norms and
           rotation as well, rounded at other places
Written as --use_liger_kernel true (Trainer, TRL), enable_liger_kernel: true (LLaMA-Factory), where liger_kernel is
           installed and knows the model; --loss_type chunked_nll (TRL 1.7 to 1.14); chunked_cross_entropy:
           true (axolotl); loss._component_: torchtune.modules.loss.CEWithChunkedOutputLoss (torchtune).
           TRL's SFT does it unasked from 1.15 on
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.layers.kernels import LIGER_KERNELS, LIGER_TYPES
from preflight.formulas.lever_rules import is_installed
from preflight.formulas.objective import LANGUAGE_MODEL
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.launchers.all import launcher_of
from preflight.model import ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.remedy import Remedy
from preflight.versions.trl import CHUNKS_LOSS, FUSES_HEAD


@hookimpl
def preflight_remedies(plan: LaunchPlan, model: ModelSpec) -> Iterable[Remedy]:
    """Replace a loss over whole logits by what the trainer can say."""
    if plan.loss not in (None, "full_logits") or not model.is_decoder_lm or model.is_encoder:
        return
    if plan.objective not in LANGUAGE_MODEL:
        return  # what reads whole logits, or has none
    found = _loss(plan, model)
    if found is not None:
        loss, how = found
        yield Remedy(
            "chunked_loss",
            "take the loss in pieces, without whole logits",
            {"loss": loss, **({"kernels": LIGER_KERNELS} if loss == "fused_linear" else {})},
            "equivalent",
            how=how,
        )


def _loss(plan: LaunchPlan, model: ModelSpec) -> tuple[str, str] | None:
    """Return the plan's word for the trainer's own chunked loss, and how it is asked for."""
    own_key = launcher_of(plan).spellings.get("chunked_loss")
    if own_key is not None:
        return "chunked_ce", own_key
    if plan.trainer not in HF_TRAINERS:
        return None
    if plan.trainer == "trl":
        if FUSES_HEAD.holds_in(plan.versions):
            return None  # whole logits only where something asks for them: label smoothing, other methods
        if CHUNKS_LOSS.holds_in(plan.versions):
            return "chunked_linear", "--loss_type chunked_nll"
    if model.model_type in LIGER_TYPES and is_installed("liger_kernel"):
        return "fused_linear", "--use_liger_kernel true"
    return None

"""What a loss over whole logits takes per token and vocabulary entry, by objective, trainer and version."""

from __future__ import annotations

from preflight.formulas.layers.beside_layers import more_logits
from preflight.formulas.layers.heads import head_of_encoder
from preflight.formulas.objective import (
    KEEPS_LOGITS,
    is_of_swift,
    is_of_trl,
    reads_completion_logits,
)
from preflight.formulas.objectives.pair_losses import completion_loss_bytes, pair_loss_bytes
from preflight.formulas.precision import Precision, precision_of, uses_autocast
from preflight.formulas.user_loop import HUGGING_FACE, LossBytes, loss_bytes, loss_rule
from preflight.launch import LaunchPlan
from preflight.model import CAUSAL_LM, ModelSpec
from preflight.plan_choices import HF_TRAINERS
from preflight.values import NamedTuple, replace


class WholeLogits(NamedTuple):
    """Bytes per logit at the worst moment of each part of the loss."""

    forward: int
    """In its forward, the logits among them."""
    backward: int
    """In its backward, without the logits that a loop keeps."""
    outputs: int
    """Of the logits that the model returns."""
    of_head: int
    """Of their gradient, in the dtype of the head."""
    source: str


def whole_logits(plan: LaunchPlan, model: ModelSpec) -> WholeLogits:
    """Return the bytes per logit of a loss that the model's head makes whole logits for."""
    size = precision_of(plan, model).bytes_of("logits")
    autocast = uses_autocast(plan)
    forward, backward, outputs, source = _by_objective(plan, model, size, autocast)
    if plan.logits_dtype in ("bf16", "fp16"):
        forward = backward = 4 * size
        source = "cross entropy in the logits' own dtype, shifted copy included"
        if autocast:
            forward, backward = 2 * size + 8, 2 * size + 12
            source = "cross_entropy is on autocast's fp32 list (aten/src/ATen/autocast_mode.h)"
    of_head = size
    if plan.logits_dtype is None:
        more = more_logits(plan, model, precision_of(plan, model))
        forward, backward = forward + more["loss"], backward + more["loss_backward"]
        of_head += more["head"]
    return WholeLogits(forward, backward, outputs, of_head, source)


def _by_objective(plan: LaunchPlan, model: ModelSpec, size: int, autocast: bool) -> LossBytes:
    casts = autocast and plan.trainer in HUGGING_FACE
    if reads_completion_logits(plan):
        return completion_loss_bytes(plan, size, casts)
    if plan.objective in KEEPS_LOGITS and (is_of_trl(plan) or is_of_swift(plan)):
        # before 4.46 the model itself makes them fp32
        upcasts = loss_rule(plan, model.model_type).upcasts_in_model
        return pair_loss_bytes(plan, size, casts or upcasts)
    if is_of_swift(plan) and plan.sequence_parallel_degree > 1:
        from preflight.formulas.swift_sequences import logits_of_part  # few launches share rows

        return logits_of_part(plan, size, casts)
    # the loss of an encoder, and of one with a decoder, is over all positions and in its head's dtype in every release, as traced
    is_of_words = model.is_encoder and head_of_encoder(plan, model) != CAUSAL_LM
    is_of_trace = is_of_words or model.has_both_stacks
    as_traced = replace(plan, versions={}) if is_of_trace else plan
    return loss_bytes(as_traced, size, casts, model.model_type, autocast)


def logits_of_evaluation(plan: LaunchPlan, precision: Precision) -> tuple[int, str]:
    """Return the bytes of an entry of the logits that an evaluation makes whole, without a graph, and the source; 0 where
    its loss makes none.

    Liger fuses head and loss while a model trains: it makes its logits whole in an evaluation, for transformers' loss
    (lce_forward: `skip_logits = self.training and ...`). Losses in chunks read whole logits in their own dtype.
    """
    size = precision.bytes_of("logits")
    if plan.trainer == "litgpt":
        from preflight.formulas.layers.lit_layers import logits_of_validation, runs_plainly

        if runs_plainly(plan):
            return logits_of_validation(plan, size)
    is_cut = plan.trainer_facts.value("cut_cross_entropy") is True
    is_ligers = plan.loss == "fused_linear" and plan.trainer in HF_TRAINERS and not is_cut
    if is_of_swift(plan) and plan.sequence_parallel_degree > 1:
        from preflight.formulas.swift_sequences import SOURCE, logits_of_part

        return logits_of_part(plan, size, uses_autocast(plan)).forward, SOURCE
    if plan.loss in (None, "full_logits") or is_ligers:
        source = "transformers/loss/loss_utils.py ForCausalLMLoss, nothing saved for backward"
        if is_ligers:
            source += "; liger_kernel/transformers/model/llama.py lce_forward (0.8.5)"
        return size + 8, source
    if plan.loss in ("chunked_ce", "fused_ce", "compiled_ce"):
        return size, "the model's logits, which this loss reads"
    return 0, ""

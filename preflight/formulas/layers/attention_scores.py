"""What eager attention makes of every score, in families that were traced without scores.

Scores are a product, are scaled, get a mask added, go through softmax and are cast back; where a sequence is long,
nothing else of a layer matters. How many of them are alive together was traced at two lengths with equally many
tokens (tests/formulas/test_eager_scores.py).
"""

from __future__ import annotations

from preflight.formulas.precision import Precision, gradient_element_bytes, uses_autocast
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec, ModelUnit
from preflight.values import NamedTuple
from preflight.versions.transformers import GPT_BIGCODE_SCORES_ARE_PLAIN, OPT_SCORES_HAVE_NO_FLOOR

IN_OWN_DTYPE = {"gpt2": 4, "falcon": 6}
"""Types whose softmax stays in the scores' dtype unless autocast makes it fp32 (modeling_gpt2.py, modeling_falcon.py,
5.24.0): bytes per score at the worst moment of their forward in 16 bits."""


NEW_GELU_WIDTHS = 3
"""What its approximation in Python keeps of an MLP's width, in tensors (preflight/formulas/layers/layer_pieces.py)."""


class Scores(NamedTuple):
    """Bytes per score of one layer."""

    saved: int
    """Kept for backward: probabilities, in fp32 and as they are multiplied."""
    forward: int
    """Alive at the worst moment of the forward."""
    backward: int
    """Alive at the worst moment of the backward, beyond what was saved."""
    recomputed: int
    """The same of a layer that runs again, all in all."""


def scores_of(plan: LaunchPlan, model: ModelSpec, compute_bytes: int) -> Scores:
    """Return the bytes per score of a model's eager attention."""
    if model.model_type == "opt" and not OPT_SCORES_HAVE_NO_FLOOR.holds_in(plan.versions):
        if compute_bytes == 2 and not uses_autocast(plan):
            return Scores(4, 6, 6, 10)
        return Scores(8, 12, 10, 16) if compute_bytes == 4 else Scores(8, 12, 8, 14)
    if is_scripted(plan, model) and compute_bytes == 2:
        return Scores(10, 14, 10, 20)
    if compute_bytes == 4:
        return Scores(4, 12 if model.model_type == "falcon" else 8, 8, 12)
    if model.model_type in IN_OWN_DTYPE and not uses_autocast(plan):
        return Scores(2, IN_OWN_DTYPE[model.model_type], 4, 6)
    return Scores(6, 10, 6, 12)


def is_scripted(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a softmax that TorchScript runs keeps its input too, as it does where it works out a backward."""
    is_plain = GPT_BIGCODE_SCORES_ARE_PLAIN.holds_in(plan.versions)
    return model.model_type == "gpt_bigcode" and not is_plain


ATTENTION_DROPOUTS = (
    "attn_pdrop", "attention_dropout", "attention_probs_dropout_prob", "attn_dropout",
)  # fmt: skip


def dropped_scores(plan: LaunchPlan, model: ModelSpec, compute_bytes: int) -> int:
    """Return the bytes per score that eager attention keeps beside probabilities where it drops some.

    A bool mask; and what is left is multiplied in place of the probabilities, which are kept for softmax unless they
    were cast (torch native_dropout, modeling_gpt2.py eager_attention_forward, 5.24.0).
    """
    if not any(model.dropouts.get(name, 0) > 0 for name in ATTENTION_DROPOUTS):
        return 0
    in_own_dtype = scores_of(plan, model, compute_bytes).saved == compute_bytes
    return 1 + (compute_bytes if in_own_dtype else 0)


class ScoresPoint(NamedTuple):
    """Bytes per token of a layer while its scores peak."""

    forward: int
    backward: int
    """Beyond what was alive when the layer's backward began."""


def at_scores(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, saved: int
) -> ScoresPoint:
    """Return what a layer that keeps `saved` bytes per token needs while its scores peak.

    Of the forward attention's own part is there; in the backward the MLP's is gone again.
    """
    shape = unit.layer
    assert shape is not None
    c = precision.bytes_of("compute")
    scores = scores_of(plan, model, c)
    per_token = shape.num_heads * (plan.seq_len or 0)
    width = shape.intermediate_size or shape.experts_per_token * shape.moe_intermediate_size
    num_widths = 4 if model.facts.get("mlp", "gated") == "gated" else 2
    if model.facts.get("activation") == "gelu_new":
        num_widths += NEW_GELU_WIDTHS
    of_mlp = num_widths * c * width
    of_attention = max(0, saved - scores.saved * per_token - of_mlp)
    gradients = 2 * c * (shape.query_size + shape.kv_size + shape.hidden_size)
    if plan.activation_checkpointing == "none":
        backward = scores.backward * per_token - of_mlp + gradients
    else:
        backward = scores.recomputed * per_token + of_attention + gradients
    return ScoresPoint(scores.forward * per_token + of_attention, backward)


def made_before_scores(plan: LaunchPlan, unit: ModelUnit, precision: Precision) -> int:
    """Return the gradients of the parameters behind attention, which are there when its backward peaks."""
    if plan.adapter is not None:
        return 0
    return sum(
        gradient_element_bytes(plan, precision, tensor) * tensor.num_params
        for tensor in unit.tensors
        if "att" not in tensor.name.partition(".")[0]
    )

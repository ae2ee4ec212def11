"""What tensor parallelism divides on one rank, and what stays whole.

Matrices are divided by columns or rows, and with them what lies between two of them: queries, keys, values,
scores, the MLP's inner width. What differs is the stream between layers:

    torchtitan    norms and the stream are cut along the sequence (SequenceParallel), and each layer gathers its
                  normed input twice, for attention and for the MLP: those two stay whole, for their weights'
                  gradients. Embedding and head are divided too, and the loss takes its share of the vocabulary
                  (torchtitan/models/llama3/infra/parallelize.py apply_tp, 0.1.0; loss_parallel is its default)
    transformers  stream, norms and the inputs of the products are whole on every rank, and so are logits. Newer releases
                  divide the head, which gathers them, and then the embedding (preflight/versions/transformers.py)

Products whose inputs are divided by rows give partial sums of the whole width, and gradients of inputs that are
divided by columns as well: in passing, the width of the stream is whole in both. On two ranks over gloo what a
layer saves is this to the byte (tests/formulas/test_tensor_parallel.py), and whole steps are counted in
tests/formulas/test_divided_steps.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from preflight.launch import LaunchPlan
from preflight.model import ModelUnit, ParameterTensor
from preflight.units import ceil_div
from preflight.values import replace
from preflight.versions.boundary import OLDEST
from preflight.versions.transformers import DIVIDES_THE_EMBEDDING, DIVIDES_THE_HEAD

if TYPE_CHECKING:
    from preflight.formulas.layers.layer_bytes import LayerCosts


def cuts_stream(plan: LaunchPlan) -> bool:
    """Tell whether tensor parallelism cuts the stream between layers along the sequence."""
    return plan.tensor_parallel_degree > 1 and plan.trainer == "torchtitan"


def divided_elements(plan: LaunchPlan, unit: ModelUnit, tensor: ParameterTensor) -> int:
    """Return the elements of a tensor on one rank of its tensor-parallel group, before anything shards it."""
    total = tensor.num_params
    degree = plan.tensor_parallel_degree
    if degree == 1 or len(tensor.shape) < 2:
        return total
    return ceil_div(total, degree) if _is_divided(plan, unit.role) else total


def _is_divided(plan: LaunchPlan, role: str) -> bool:
    """Tell whether tensor parallelism divides the matrices of units with a role."""
    if role == "layer" or cuts_stream(plan):
        return role in ("layer", "lm_head", "embedding")
    boundary = {"lm_head": DIVIDES_THE_HEAD, "embedding": DIVIDES_THE_EMBEDDING}.get(role)
    return boundary is not None and boundary.holds_in(plan.versions, OLDEST)


def local_vocab(plan: LaunchPlan, vocab_size: int) -> int:
    """Return the entries of the vocabulary whose logits one rank holds."""
    return ceil_div(vocab_size, plan.tensor_parallel_degree) if cuts_stream(plan) else vocab_size


def divided_costs(plan: LaunchPlan, costs: LayerCosts, stream: int, width: int) -> LayerCosts:
    """Return one rank's costs of a layer.

    `stream` is what norms and products save of the stream, `width` one copy of it in the compute dtype; both in
    bytes per token.
    """
    degree = plan.tensor_parallel_degree

    def over(num_bytes: int, whole: int) -> int:
        whole = min(whole, num_bytes)
        return ceil_div(num_bytes - whole, degree) + whole

    is_cut = cuts_stream(plan)
    inputs = 2 * width if plan.adapter is None else 0
    kept = inputs if is_cut else stream
    saved = over(costs.saved, kept)
    return replace(
        costs,
        saved=saved,
        residual=ceil_div(costs.residual, degree) if is_cut else costs.residual,
        forward_transient=over(costs.forward_transient, width),
        forward_checkpointed=over(costs.forward_checkpointed, (2 if is_cut else 3) * width),
        backward_transient=over(costs.backward_transient, 2 * width),
        # the MLP's output is kept before it is summed over the ranks, and both sums are kept as well
        selective=over(costs.selective, width if is_cut else kept)
        + (2 * ceil_div(width, degree) if is_cut else 0),
        attention_backward=over(costs.attention_backward, kept // 2 + 2 * width),
        copied_bytes=ceil_div(costs.copied_bytes, degree),
        copied_in_forward_bytes=ceil_div(costs.copied_in_forward_bytes, degree),
        traced_forward_bytes=None,
        traced_backward_bytes=None,
    )

"""What attention keeps beside queries, keys, values and its output: scores, masks, repeated keys, copies."""

from __future__ import annotations

from preflight.formulas.cost_tables import GROUPED_KEYS, has_window_mask, method_of
from preflight.formulas.layers.attention import OWN_SDPA
from preflight.formulas.layers.attention_scores import dropped_scores, is_scripted, scores_of
from preflight.formulas.layers.layer_coefficients import has_own_scores, layer_forms
from preflight.formulas.objective import num_sequences
from preflight.formulas.precision import Precision
from preflight.formulas.user_loop import has_own_model_code
from preflight.launch import LaunchPlan
from preflight.model import LayerShape, ModelSpec, ModelUnit
from preflight.units import ceil_div
from preflight.versions.transformers import ATTENDS_IN_PLACE, HAS_BOOL_MASK, READS_GROUPED_KEYS

CONCATENATES_ROTARY = frozenset({"phi", "phi3", "stablelm", "glm", "glm4", "gpt_neox"})
"""Queries are a new contiguous tensor after partial rotary embedding, so attention's output is not in token
order, and the output projection reads a copy of it (measured: test_layer_costs.py)."""
VALUES_IN_FUSED_QKV = frozenset({"gpt_neox", "phi3"})
"""Values are a view of the fused projection's output, which stays whole."""


def attention_extra(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, shape: LayerShape, c: int
) -> int:
    """Scores for eager; a float mask and repeated keys and values for sdpa where padding or a window brings a mask."""
    length = plan.seq_len or 0
    is_laid_out = lays_out_keys(model, shape)
    is_copied = is_laid_out or copies_keys(plan, model, shape)
    repeated = 2 * c * (shape.query_size - shape.kv_size) if is_copied else 0
    if plan.attention == "eager":
        per_score = scores_of(plan, model, c).saved + dropped_scores(plan, model, c)
        laid_out = (
            c * shape.query_size if is_scripted(plan, model) else 0
        )  # queries, of all heads in one product
        return per_score * shape.num_heads * length + repeated + laid_out
    if takes_mask(plan, model, unit) and model.model_type in OWN_SDPA:
        return c * (shape.query_size + length)  # its outcome goes back into the order of positions
    if takes_mask(plan, model, unit):
        is_of_window = shape.attention_kind == "sliding" and always_masks(plan, model)
        is_own = has_bool_mask(plan) or is_of_window
        return repeated + (c * length if is_own else 0)
    return repeated if is_laid_out or repeats_keys(plan, model.model_type) else 0


def lays_out_keys(model: ModelSpec, shape: LayerShape) -> bool:
    """Tell whether a class gives every query head keys of its own before any attention: Falcon, where there are several
    (modeling_falcon.py FalconAttention._split_heads, 4.48 to 5.24). It was traced with one, whatever a plan's model has."""
    is_traced = GROUPED_KEYS in model.facts
    return model.model_type == "falcon" and shape.num_kv_heads > 1 and not is_traced


def copies_keys(plan: LaunchPlan, model: ModelSpec, shape: LayerShape) -> bool:
    """Tell whether keys and values that are repeated for every query are copies.

    Those of a single head are a view of it (torch expand) until something lays them out: matmul does for several
    sequences (aten/src/ATen/native/LinearAlgebra.cpp _matmul_impl, 2.13: expand, then reshape), and transformers did in
    front of torch's kernel as long as it did so with queries.
    """
    if shape.num_kv_heads != 1 or model.facts.get(GROUPED_KEYS):
        return shape.num_kv_heads < shape.num_heads
    if plan.attention == "eager":
        return num_sequences(plan) > 1
    return not ATTENDS_IN_PLACE.holds_in(plan.versions)


CALLS_THE_KERNEL = frozenset({"chatglm", "falcon"})
"""Types whose class hands torch's kernel what it has, in every release (modeling_falcon.py, 4.48.1 to 5.24.0; ChatGLM2's own code);
others take transformers' sdpa_attention_forward, and did what it does before there was one."""


def _takes_common_sdpa(plan: LaunchPlan, model_type: str) -> bool:
    is_sdpa = plan.attention in ("sdpa", None) and not has_own_model_code(plan)
    return is_sdpa and model_type not in CALLS_THE_KERNEL


def repeats_keys(plan: LaunchPlan, model_type: str = "") -> bool:
    """Tell whether keys and values are repeated for every query before torch's kernel reads them."""
    return _takes_common_sdpa(plan, model_type) and not READS_GROUPED_KEYS.holds_in(plan.versions)


def copies_output(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> bool:
    """Tell whether what comes out of torch's kernel without a mask is copied into the order of tokens.

    The kernel lays it out like its queries, which were made contiguous; an encoder's are a linear layer's output.
    """
    is_old = _takes_common_sdpa(plan, model.model_type) and not ATTENDS_IN_PLACE.holds_in(
        plan.versions
    )
    is_scored = unit.layer is not None and unit.layer.attention_kind != "linear"
    return is_old and is_scored and not model.is_encoder


MASKED_BEFORE_4_53 = frozenset({"gemma2", "gemma3_text", "cohere2"})


def always_masks(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether a type hands torch's kernel a float mask whatever the batch, of which each layer with a window makes one
    of its own: models/gemma2/modeling_gemma2.py torch.where(sliding_window_mask) (4.48.1, 4.51.3), gemma3 and cohere2."""
    return model.model_type in MASKED_BEFORE_4_53 and not has_bool_mask(plan)


def takes_mask(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> bool:
    """Tell whether torch's kernel is given a mask, which flash attention does not take."""
    is_masked = has_padding_mask(plan) or has_window_mask(plan, unit) or always_masks(plan, model)
    return plan.attention in ("sdpa", None) and is_masked


def has_bool_mask(plan: LaunchPlan, model: ModelSpec | None = None) -> bool:
    """Tell whether sdpa's padding mask is a bool one, and the kernel's float one is each layer's own."""
    is_of_own_code = model is not None and model.model_type in OWN_SDPA
    return is_of_own_code or HAS_BOOL_MASK.holds_in(plan.versions)


def mask_bytes(plan: LaunchPlan, model: ModelSpec, precision: Precision, tokens: int) -> int:
    """Return the bytes of the square mask that all layers share: eager always has one, sdpa where batches are padded.

    Layers with a window have one anyway, which is counted with them where they were traced with it, and so has a
    family that was traced eagerly, and an encoder with a decoder; flash attention needs none.
    """
    if sees_packed_rows(plan):
        return tokens * ceil_div(plan.seq_len or 0, plan.context_parallel_degree)
    windowed = [unit for unit in model.layers if has_window_mask(plan, unit)]
    if model.has_both_stacks:
        return 0
    if plan.attention in ("sdpa", None):
        if not (has_padding_mask(plan) or windowed or always_masks(plan, model)):
            return 0
        size = 1 if has_bool_mask(plan, model) else precision.bytes_of("compute")
    elif plan.attention == "eager":
        if traced_eagerly(plan, model, precision):
            return 0
        size = precision.bytes_of("compute")
    else:
        return 0
    method = method_of(plan, precision)
    for unit in windowed:
        forms = layer_forms(plan, model, unit, method, False)
        if forms is not None and "TL*1" in forms["saved"]:
            return 0
    return size * tokens * (plan.seq_len or 0)


def sees_packed_rows(plan: LaunchPlan) -> bool:
    """Tell whether transformers takes a rank's two pieces of a sequence, whose positions jump, for packed rows.

    Rows without an attention mask of their own have a bool one made of their positions, which no kernel is given
    (masking_utils.py find_packed_sequence_indices, 5.24.0). A ring's last rank has pieces that follow each other.
    """
    is_ring = plan.context_parallel_degree > 1 and not has_own_model_code(plan)
    return is_ring and plan.sequence_kind == "packed" and has_bool_mask(plan)


def has_padding_mask(plan: LaunchPlan) -> bool:
    """Tell whether an attention mask reaches the kernel: a padded batch of more than one sequence.

    transformers drops the mask when no position is masked (masking_utils.py, 5.24.0:252-302), so a
    single sequence is its own longest. torchtune pads and leaves the mask out: padded_collate_sft returns
    tokens and labels (torchtune/data/_collate.py:216, 0.6.1). Where ranks share a sequence it is taken away in front
    of attention (accelerate/big_modeling.py _attach_context_parallel_hooks, 1.15.0; ulysses_sp.py uattn_wrapper).
    """
    if has_own_model_code(plan) or plan.ranks_per_sequence > 1:
        return False
    return plan.sequence_kind == "padded" and num_sequences(plan) > 1


def traced_eagerly(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> bool:
    """Tell whether scores, and the mask that is added to them, are in a family's own forms."""
    forms = layer_forms(plan, model, model.layers[0], method_of(plan, precision), False)
    return has_own_scores(forms)

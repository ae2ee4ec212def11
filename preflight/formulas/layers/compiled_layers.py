"""What a decoder layer keeps for its backward under torch.compile, in bytes per token.

AOTAutograd cuts the joint graph where the fewest bytes cross (torch/_functorch/partitioners.py,
min_cut_rematerialization_partition, torch 2.13). In the families that were partitioned (but GPT-NeoX, which
keeps a quarter more) it cuts in the same places, and tests/formulas/test_compiled_layers.py partitions some again:

    the stream between layers, at the layer's input and after attention    once in a parallel block
    the input of every linear whose weight trains, once for those that share it
    queries, keys, values and attention's output, 4 bytes a head; with a norm of their own, queries and keys before it
    gate and up projections; what a norm behind a sublayer reads
    4 bytes for each norm: its statistics

Norms, rotary embeddings, activation functions and casts are computed again. Under transformers SDPA gets its mask
as a tensor, since a mask cannot be read while dynamo traces (masking_utils.py _ignore_causal_mask_sdpa, 5.24), and
with a mask keys and values are repeated to all heads (integrations/sdpa_attention.py use_gqa_in_sdpa). torchtune repeats
them whatever its mask (modules/attention.py:285-291, 0.6.1).
"""

from __future__ import annotations

from preflight.formulas.adapters.adapters import adapter_targets, is_target
from preflight.formulas.precision import Precision
from preflight.launch import LaunchPlan
from preflight.model import LayerShape, ModelSpec, ModelUnit
from preflight.plan_choices import HF_TRAINERS

ROUTING_BYTES_PER_ROW = 38
"""Sort order, positions and weights of a token's expert (transformers/integrations/moe.py, 5.24)."""


def compiled_bytes(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, stream_bytes: int
) -> int:
    """Return what one layer keeps; `stream_bytes` is what it hands on, per token."""
    shape = unit.layer
    assert shape is not None
    facts, c, h = model.facts, precision.bytes_of("compute"), shape.hidden_size
    read, ranks = _read_by_weights(plan, model, unit)
    parallel = bool(facts.get("parallel_block"))
    shares_norm = parallel and not facts.get("two_norms")
    total = stream_bytes * (1 if parallel else 2) + c * ranks
    total += c * h * ("attention" in read)
    total += c * h * ("mlp" in read and not (shares_norm and "attention" in read))
    total += 4 * (1 if shares_norm else 4 if facts.get("post_norms") else 2)
    if facts.get("post_norms"):
        total += 2 * c * h
    if shape.attention_kind != "none":
        total += _attention(plan, model, shape, c)
    gated = facts.get("mlp", "gated") == "gated"
    if shape.num_experts:
        total += _experts(shape, c, "down" in read)
        total += _dense(shape.shared_expert_intermediate_size, c, True, "down" in read)
    else:
        total += _dense(shape.intermediate_size, c, gated, "down" in read)
    return total


def _read_by_weights(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit
) -> tuple[frozenset[str], int]:
    """Return which linear inputs a trained weight reads, and the ranks of the adapters that read them."""
    if plan.adapter is None:
        return frozenset({"attention", "mlp", "down"}), 0
    targets = adapter_targets(plan.adapter, model)
    hit = [t.module for t in unit.tensors if len(t.shape) >= 2 and is_target(t, targets)]
    return frozenset(_input_of(module) for module in hit), plan.adapter.rank * len(hit)


def _input_of(module: str) -> str:
    if module in DOWN:
        return "down"
    if module in ATTENTION_OUT:
        return "attention output"  # attention keeps it in any case
    return "mlp" if module in MLP_IN else "attention"


DOWN = frozenset({"down_proj", "c_proj", "fc2", "fc_out", "dense_4h_to_h", "w2"})
ATTENTION_OUT = frozenset({"o_proj", "out_proj", "dense"})
MLP_IN = frozenset(
    {"gate_proj", "up_proj", "gate_up_proj", "c_fc", "fc1", "fc_in", "dense_h_to_4h", "w1", "w3"}
)


def _attention(plan: LaunchPlan, model: ModelSpec, shape: LayerShape, c: int) -> int:
    q, kv = shape.query_size, shape.kv_size
    v = shape.num_kv_heads * (shape.v_head_dim or shape.head_dim)
    out = shape.num_heads * (shape.v_head_dim or shape.head_dim)
    total = c * (q + kv + v + out) + 4 * shape.num_heads
    if model.facts.get("qk_norm"):
        total += c * (q + kv) + 4 * (shape.num_heads + shape.num_kv_heads)
    repeats = 1 < shape.num_kv_heads < shape.num_heads
    if repeats and (plan.attention == "eager" or plan.trainer == "torchtune" or _has_mask(plan)):
        total += c * (q - kv + out - v)
    if plan.attention == "eager":  # scores before and after the softmax
        total += 2 * c * shape.num_heads * (plan.seq_len or 0)
    return total


def _has_mask(plan: LaunchPlan) -> bool:
    return plan.attention == "sdpa" and plan.trainer in HF_TRAINERS


def _dense(width: int, c: int, gated: bool, keeps_product: bool) -> int:
    return (1 + gated + keeps_product) * c * width


def _experts(shape: LayerShape, c: int, keeps_product: bool) -> int:
    k, width = shape.experts_per_token, shape.moe_intermediate_size
    row = 2 * c * shape.hidden_size + _dense(width, c, True, keeps_product) + ROUTING_BYTES_PER_ROW
    return 4 * shape.num_experts + k * row

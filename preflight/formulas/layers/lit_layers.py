"""What a layer of litgpt's keeps: one Block for every model, whatever transformers' class of it does.

Of litgpt 0.5.13 (model.py Block, CausalSelfAttention, RMSNorm and the MLPs; lora.py LoRALinear, LoRAQKVLinear), with h hidden, q and
kv of all queries and all keys, I intermediate, c bytes of the compute dtype; tests/formulas/lit_layers.py counts them, and 0.4.13
to 0.5.13 keep the same but for 2 c kv less of a single key before 0.5.7:

    RMSNorm of n         4n of its input in fp32 + 4; 4n more where it trains
    LayerNorm of n       c n of its input + 8
    queries, keys        2 c q, new tensors behind the rotary embedding; keys are copied for every query
    values               c (q + 2 kv), a view of the one product of all three; c q where they are copied too
    attention            c q + 4 per head, and c q again in the order of tokens for a projection that trains or is adapted
    MLP                  3 c I with a gate, c I without; c I of the product where the last projection trains or is adapted
    loss                 logits and their log-probabilities in fp32, which Fabric casts; copies and gradients of 128 places of every row at a time
    window               c of every place of a row for every place, whatever the number of rows: a mask, which attention keeps
    LoRA                 c of a layer's input, or of its dropped copy with a mask of a byte; q, k, v share one
                         c of all that it makes where it is on some of q, k and v: index_copy_ keeps its source
    packed layer         c of its input, once for all that read it, where bitsandbytes keeps it: before litgpt 0.5.5
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from preflight.formulas.adapters.adapter_inputs import keeps_packed_inputs
from preflight.formulas.adapters.adapters import adapter_targets, is_target
from preflight.formulas.layers.layer_bytes import LayerCosts
from preflight.formulas.layers.layer_pieces import norm_kind
from preflight.formulas.precision import Precision, is_quantized, uses_autocast
from preflight.formulas.sharding import num_tokens
from preflight.formulas.tensor_parallel import local_vocab
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec, ModelUnit
from preflight.units import ceil_div
from preflight.values import replace
from preflight.versions.litgpt import ASKS_FOR_NEWER_BITSANDBYTES

OUTPUT = 4
"""Bytes of a number of what a model under Fabric returns: torch's default dtype, which the loss is taken in and the loop keeps
(lightning/fabric/plugins/precision, `convert_output` of all but 32-true, where it is fp32 anyway)."""
OTHER_BLOCKS = frozenset({"gemma2", "gemma3", "gemma3_text"})
"""Types whose Block has norms behind its parts too, or caps the scores of its attention, which are made whole then."""
PLACES = 128
"""Of every row, whose logits the head makes at a time and the loss takes at a time (finetune/lora.py, 0.4.0 to 0.5.13)."""
HEADS = ("q_proj", "k_proj", "v_proj")
"""Modules of transformers' that litgpt has in one, and adapts each for itself."""
ALL_HEADS = frozenset({"query_key_value", "qkv_proj"})
READS_OWN = frozenset({"o_proj", "dense", "down_proj", "dense_4h_to_h", "fc2"})
"""Modules that read what nothing else does: attention's output, and the MLP's product."""


def runs_plainly(plan: LaunchPlan) -> bool:
    """Tell whether litgpt computes as it was counted: what pretrains is compiled, and autocast computes in several dtypes."""
    return not plan.torch_compile and not uses_autocast(plan)


def is_block_of_litgpt(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit) -> bool:
    """Tell whether a layer of a launch of litgpt's is the Block whose costs these are: dense, without capped scores."""
    shape = unit.layer
    if shape is None or shape.num_experts or model.model_type in OTHER_BLOCKS:
        return False
    return shape.attention_kind in ("full", "sliding") and runs_plainly(plan)


def is_borne_out(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether litgpt's published runs are as its layers count: those that train whole models, on one card or several, and
    those with LoRA on one, wherever it is, on a base that is packed or not: 36 of 37 lie 1 % below to 1.7 above, one 2.3 above.

    Runs with LoRA over several cards were not published: `devices` of those that name four is 1. What 4 bits take beside a
    release that nobody names may be more, and of 8 bits there is no run.
    """
    if not all(is_block_of_litgpt(plan, model, unit) for unit in model.layers):
        return False
    packing = plan.base_quantization
    is_said = packing is None or (packing.scheme != "int8" and "litgpt" in plan.versions)
    return plan.adapter is None or (is_said and plan.engine == "single")


def as_litgpt_keeps(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, precision: Precision, costs: LayerCosts
) -> LayerCosts:
    """Return the costs of a layer with what litgpt's keeps in place of transformers'; what passes is transformers'."""
    c = precision.bytes_of("compute")
    saved = kept_by_block(plan, model, unit, c)
    more = saved - costs.saved
    held = c * sum(_read_by_packed(plan, unit, (), _is_one_norm(model)))
    again = more * num_tokens(plan)
    forward, backward = costs.traced_forward_bytes, costs.traced_backward_bytes
    is_checkpointed = plan.activation_checkpointing == "full"
    return replace(
        costs,
        saved=saved,
        held=held if _keeps_read(plan) else 0,
        attention_backward=costs.attention_backward + more,
        forward_checkpointed=costs.forward_checkpointed + more,
        traced_forward_bytes=None if forward is None else forward + again,
        traced_backward_bytes=None
        if backward is None
        else backward + (again if is_checkpointed else 0),
    )


def kept_by_block(plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, c: int) -> int:
    """Return the bytes of a token that a Block keeps from its forward to its backward, `c` of each number it computes."""
    shape = unit.layer
    assert shape is not None
    trains = plan.adapter is None
    h, q, kv = shape.hidden_size, shape.query_size, shape.kv_size
    is_gated = model.facts.get("mlp", "gated") == "gated"
    num_inputs = 1 if _is_one_norm(model) else 2

    def of_rms(n: int, heads: int) -> int:
        return 4 * n + 4 * heads + (4 * n if trains else 0)

    if norm_kind(model).startswith("layernorm"):  # both of a parallel block read the layer's input
        kept = c * h * (1 if model.facts.get("parallel_block") else 2) + 8 * num_inputs
    else:
        kept = num_inputs * of_rms(h, 1)
    if model.facts.get("qk_norm"):
        kept += of_rms(q, shape.num_heads) + of_rms(kv, shape.num_kv_heads)
    if kv < q:
        kept += 3 * c * q
    else:
        kept += 2 * c * q + c * (q + 2 * kv)
    kept += c * q + 4 * shape.num_heads
    if shape.attention_kind == "sliding" and plan.seq_len:
        kept += c * ceil_div(plan.seq_len, plan.micro_batch_size or 1)
    kept += (3 if is_gated else 1) * c * shape.intermediate_size
    if trains:
        return kept + c * (num_inputs * h + q + shape.intermediate_size)
    return kept + _of_adapter(plan, model, unit, c, num_inputs == 1)


def _is_one_norm(model: ModelSpec) -> bool:
    """Tell whether attention and MLP of a layer read the output of one norm."""
    return bool(model.facts.get("parallel_block") and not model.facts.get("two_norms"))


def _of_adapter(
    plan: LaunchPlan, model: ModelSpec, unit: ModelUnit, c: int, is_shared: bool
) -> int:
    """Return what LoRA keeps of a token; `is_shared` is where attention and MLP read the output of one norm."""
    adapter, shape = plan.adapter, unit.layer
    assert adapter is not None and shape is not None
    targets = adapter_targets(adapter, model)
    widths = (shape.query_size, shape.kv_size, shape.kv_size)
    named = set(HEADS).intersection(targets) if targets != "all-linear" else set()
    is_on_any = any(
        t.module in (*HEADS, *ALL_HEADS) and is_target(t, targets) for t in unit.tensors
    )
    heads = [name for name in HEADS if name in (named or HEADS)] if is_on_any else []
    inputs = [(shape.hidden_size, "attention", len(heads))] if heads else []
    for tensor in unit.tensors:
        if tensor.module in (*HEADS, *ALL_HEADS) or not is_target(tensor, targets):
            continue
        num_layers = 2 if tensor.module == "gate_up_proj" else 1
        inputs += [(tensor.shape[1], _source(tensor.module, is_shared), 1)] * num_layers
    kept, read = 0, set[str]()
    for width, source, num_adapters in inputs:
        kept += c * adapter.rank * num_adapters
        if adapter.dropout:
            kept += (c + 1) * width
        elif source not in read:
            read.add(source)
            kept += c * width
    if _keeps_read(plan):
        kept += c * sum(_read_by_packed(plan, unit, read, is_shared))
    if 0 < len(heads) < len(HEADS):
        kept += c * sum(size for name, size in zip(HEADS, widths, strict=True) if name in heads)
    return kept


def _keeps_read(plan: LaunchPlan) -> bool:
    """Tell whether bitsandbytes' layers keep what they read, of the release that litgpt's asks for."""
    is_packed = plan.base_quantization is not None
    is_older = is_packed and not ASKS_FOR_NEWER_BITSANDBYTES.holds_in(plan.versions)
    return is_older or keeps_packed_inputs(plan)


def _source(module: str, is_shared: bool) -> str:
    """Return what a linear layer reads: what others of its source read too is one tensor."""
    if module in READS_OWN:
        return module
    return "attention" if is_shared or module in (*HEADS, *ALL_HEADS) else "mlp"


def _read_by_packed(
    plan: LaunchPlan, unit: ModelUnit, read: Collection[str], is_shared: bool
) -> Iterator[int]:
    """Yield the widths of what packed layers read and no adapter keeps, once for each source."""
    seen = set(read)
    for tensor in unit.tensors:
        if plan.base_quantization is None or not is_quantized(plan, unit, tensor):
            continue
        source = _source(tensor.module, is_shared)
        if source not in seen:
            seen.add(source)
            yield tensor.shape[1]


def loss_in_pieces(
    plan: LaunchPlan, model: ModelSpec, precision: Precision, tokens: int
) -> Iterable[MemoryTerm]:
    """Yield what the loss of fine-tuning takes beside the logits that its loop keeps (utils.py chunked_cross_entropy).

    Fabric gives the logits back in fp32, while the head's own and those of the step before are there still, and the loss is
    taken of these. With LoRA head and loss take 128 places of every row at a time, of the last piece one less than the head
    made; all of a model's logits are cut by one place otherwise. What is cut of several rows is a copy. The logits of the
    step before are gone when the log-probabilities of all places are made, which are as large and stand in the estimate as
    those. Gradients of all pieces are fp32 before the first is cast. A packed head is unpacked while it multiplies.
    """
    size, vocab = precision.bytes_of("logits"), local_vocab(plan, model.vocab_size)
    rows = plan.micro_batch_size or 1
    at_a_time = tokens if plan.adapter is None else min(tokens, rows * PLACES)
    made, every, piece = (n * vocab for n in (size * tokens, OUTPUT * tokens, OUTPUT * at_a_time))
    is_cast = size != OUTPUT
    is_packed = plan.base_quantization is not None
    unpacked = size * vocab * model.hidden_size if is_packed else 0
    parts = {
        "logits, forward": (
            max(
                made + unpacked,
                every + max(made if is_cast else 0, piece if rows > 1 else 0),
            ),
            Moment.LOSS_FORWARD,
        ),
        "log-probabilities and gradients of logits": (
            2 * every if plan.adapter is None else every + 2 * piece,
            Moment.LOSS_BACKWARD,
        ),
        "gradient of the logits": (
            (made if is_cast else piece) + unpacked,
            Moment.HEAD_BACKWARD,
        ),
    }
    formula = f"{tokens:,} tokens, {at_a_time:,} at a time, x {vocab:,} x {OUTPUT}, made in {size}"
    source = (
        "litgpt/utils.py chunked_cross_entropy, finetune/lora.py, finetune/full.py (0.4.0 to 0.5.13);"
        " convert_output of lightning/fabric/plugins/precision (2.3 to 2.6)"
    )
    for name, (num_bytes, moment) in parts.items():
        yield MemoryTerm(name, num_bytes, frozenset({moment}), formula, source)


def logits_of_validation(plan: LaunchPlan, size: int) -> tuple[int, str]:
    """Return the bytes of an entry of the logits that validate() makes, and the source: whole, beside those of the last step.

    Those of the batch before are there while Fabric casts; what is cut of several rows is a copy, made after them.
    """
    cast = 2 * OUTPUT + (size if size != OUTPUT else 0)
    cut = (3 if (plan.eval_micro_batch_size or 1) > 1 else 2) * OUTPUT
    return OUTPUT + max(cast, cut), "litgpt/finetune/lora.py validate, fit (0.4.0 to 0.5.13)"


def gradient_of_words(
    plan: LaunchPlan, model: ModelSpec, precision: Precision
) -> Iterable[MemoryTerm]:
    """Yield the gradient of the embedding beside a packed base: bitsandbytes' StableEmbedding takes its place after all else
    was frozen, and after the optimizer was made, which therefore never empties it (finetune/lora.py, 0.5.0 to 0.5.13)."""
    size = precision.bytes_of("compute")
    formula = f"{model.embedding_params:,} x {size}"
    for name, moments in (
        (
            "gradient of the embedding, which stays",
            frozenset((*STEP_MOMENTS, Moment.OPTIMIZER_STEP)),
        ),
        ("gradient of the embedding, which is added", frozenset({Moment.EMBEDDING_BACKWARD})),
    ):
        yield MemoryTerm(
            name,
            size * model.embedding_params,
            moments,
            formula,
            "litgpt/finetune/lora.py StableEmbedding",
            from_second_step=True,
        )

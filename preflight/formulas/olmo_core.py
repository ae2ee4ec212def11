"""The most that OLMo-core's training takes beside transformers' modules of the same model, which its launches are estimated with.

Its RMSNorm multiplies by the weight in fp32 and its rotary product is in fp32, where transformers casts before
(nn/layer_norm.py:272, nn/rope.py:527 of ai2-olmo-core 3.0.0). Its optimizers walk over parameters one by one
(optim/adamw.py:15). Blocks that torch.compile is asked for are cut where transformers' are
(preflight/formulas/layers/compiled_layers.py), and the loss is compiled with the head (nn/transformer/model.py apply_compile).
tests/formulas/test_olmo_core_steps.py holds steps and blocks that were counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, local_elements, num_tokens
from preflight.launch import LaunchPlan
from preflight.memory import EVERY_STEP, MemoryTerm, Moment, at_most
from preflight.model import ModelSpec
from preflight.unpriced_names import OLMO_CORE, OLMO_PARTS, Z_LOSS

_term = partial(at_most, source=OLMO_CORE)

TYPES = frozenset({"llama", "olmo2", "olmo3", "qwen3"})
"""Types whose layers were counted; of others OLMo-core's code is another."""
SCANNED = frozenset({"olmo_hybrid"})
"""Types of which it always runs flash-linear-attention's kernels (nn/attention/recurrent.py GatedDeltaNet), which take less than
transformers' torch code of the same scan; their blocks were counted with every kernel left out."""
OF_LAYER = 8
"""Bytes of an element of a row of hidden values that a layer keeps beyond transformers': two of each norm's rows, and at most
four of keys and values that are repeated for every query head."""
BETWEEN_PARTS = {False: 5, True: 3}
"""Whether blocks are compiled -> rows of hidden values beside a block's input that stay where its six modules are checkpointed
one by one: inputs of attention, feed-forward and norms, and of sums, which compiled ones do not keep. With norms behind
attention and feed-forward compiled blocks keep one, and two where flash-attn takes rows of several documents, which its
code breaks the graph for (flash_attn_varlen_func, 2.8.3)."""
SINES = 8
"""Bytes of an element of a head that compiled blocks keep of each token then: sine and cosine of its position, in fp32."""
SUMS = 8
"""Bytes of an entry of the logits."""
IN_STEP = 16
"""Bytes of an element of the largest parameter: four copies in fp32 at a time (optim/adamw.py:29-49)."""


def olmo_core_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the terms of what may be more than the estimate; none where nobody counted what runs."""
    return list(_terms(plan, model)) if is_bounded(plan, model) else []


def parts_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the term of what stays between modules that are checkpointed one by one; none where nobody counted what runs."""
    if not is_bounded(plan, model) or plan.activation_checkpointing == "none":
        return []
    size, tokens = precision_of(plan, model).bytes_of("compute"), num_tokens(plan)
    each = BETWEEN_PARTS[plan.torch_compile] * model.hidden_size * size
    if plan.torch_compile:
        each += SINES * max(unit.layer.head_dim for unit in model.layers if unit.layer is not None)
    rows = tokens * model.num_layers
    return [_term(OLMO_PARTS, rows * each, EVERY_STEP, f"{rows:,} x {each:,}")]


def z_loss_at_most(plan: LaunchPlan, model: ModelSpec) -> list[MemoryTerm]:
    """Return the term of what the sums of exponentials keep: logits in fp32, and their gradient beside the loss's own
    (nn/functional/cross_entropy_loss.py); compiled they keep none."""
    if not is_bounded(plan, model):
        return []
    entries = num_tokens(plan) * model.vocab_size
    moments = (Moment.LOSS_FORWARD, Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD)
    return [_term(Z_LOSS, SUMS * entries, moments, f"{entries:,} x {SUMS}")]


def is_counted(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether steps of a model of this type, and of such an engine, took about what is estimated."""
    return model.model_type in TYPES and is_bounded(plan, model)


def is_bounded(plan: LaunchPlan, model: ModelSpec) -> bool:
    """Tell whether steps of a model of this type, and of such an engine, took no more than is estimated with these terms."""
    is_text = model.is_decoder_lm and not model.has_towers
    is_text &= model.model_type in TYPES | SCANNED
    is_known = plan.engine in ("fsdp2", "single") and plan.adapter is None
    is_known &= plan.context_parallel_degree == plan.tensor_parallel_degree == 1
    return bool(is_text and is_known and plan.seq_len and model.layers)


def _terms(plan: LaunchPlan, model: ModelSpec) -> Iterator[MemoryTerm]:
    row = num_tokens(plan) * model.hidden_size
    each = OF_LAYER * (model.num_layers if plan.activation_checkpointing == "none" else 1)
    yield _term("hidden values of OLMo-core's layers", row * each, EVERY_STEP, f"{row:,} x {each}")
    held = held_tensors(plan, model)
    largest = max(local_elements(plan, each) for each in held)
    step = (Moment.OPTIMIZER_STEP,)
    yield _term("a parameter's update", IN_STEP * largest, step, f"{largest:,} x {IN_STEP}")
    if (plan.gradient_accumulation_steps or 1) > 1:
        return  # estimated; else its data say how many micro batches a step has
    shards = sum(local_elements(plan, each) for each in held if each.trains)
    size = precision_of(plan, model).bytes_of("trainable")
    formula = f"{shards:,} x {size}"
    yield _term("gradients of earlier micro batches", shards * size, EVERY_STEP, formula)

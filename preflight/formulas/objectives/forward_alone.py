"""A forward without a backward: what an engine gathers for it, the copies that autocast makes, and what passes through it.

Counted on real ranks by tests/formulas/test_real_phases.py (the model that trains) and test_reference.py (a copy beside it);
G is a layer, c the bytes of the gathered dtype, P the model, W ranks:

                the model that trains                                   a copy that TRL prepares
    FSDP2       c tail, kept until a backward frees it; 3 cG beside     2 cP: one unit, and what is copied out of it
    FSDP1       c root, kept like the tail; cG + cG/W beside            the same
    ZeRO-3      c live: the training trace decides what is used again   c live in the first layers, c tail at the head
"""

from __future__ import annotations

from math import ceil

from preflight.formulas.engines.deepspeed_rules import (
    ahead_of_adapter,
    live_in_forward,
    live_parameters,
    tail_elements,
)
from preflight.formulas.layers.chunked_heads import (
    gathers_head_itself,
    head_bytes,
    skips_head,
    takes_ligers_chunks,
)
from preflight.formulas.layers.key_values import cache_bytes, stream_element_bytes
from preflight.formulas.layers.layer_costs import layer_costs
from preflight.formulas.objective import (
    ONLINE,
    is_of_llamafactory,
    is_of_swift,
    is_of_torchtune,
    is_of_trl,
    num_sequences,
    reads_completion_logits,
    reference_of,
    tokens_with_logits,
)
from preflight.formulas.objectives.actor_losses import actor_units, trains_actor
from preflight.formulas.objectives.log_probabilities import (
    OF_STEP,
    Scoring,
    logits_of_pairs,
    scoring_of,
)
from preflight.formulas.objectives.pair_losses import completion_rules
from preflight.formulas.precision import load_dtype, precision_of, uses_autocast
from preflight.formulas.sharding import held_tensors, wrap_units
from preflight.formulas.tensor_parallel import local_vocab
from preflight.launch import LaunchPlan
from preflight.model import ModelSpec
from preflight.units import ceil_div, dtype_bytes
from preflight.values import NamedTuple
from preflight.versions.transformers import READS_GROUPED_KEYS

FSDP_SOURCE = "torch/distributed/fsdp (2.13): forward without a backward pass"
DEEPSPEED_SOURCE = "deepspeed partitioned_param_coordinator.py (0.19.8)"


class Gathered(NamedTuple):
    """Bytes of a sharded model that a rank has whole."""

    kept: int
    """From the first such forward on."""
    passing: int
    """While a forward runs."""


class ForwardBytes(NamedTuple):
    """What passes through a forward without gradients, beside what is gathered for it."""

    at_head: int
    at_layer: int

    @property
    def most(self) -> int:
        return max(self)


def gathered_in_forward(plan: LaunchPlan, model: ModelSpec) -> Gathered:
    """Return what the model that trains has whole in a forward without a backward pass."""
    precision = precision_of(plan, model)
    if plan.engine == "zero3":
        return Gathered(precision.bytes_of("compute") * live_parameters(plan, model), 0)
    mixed = plan.mixed_precision != "no"
    if not plan.is_fsdp or (plan.shard_degree == 1 and not mixed):
        return Gathered(0, 0)
    size = precision.bytes_of("compute" if mixed else "frozen")
    units = wrap_units(plan, model, padded=True)
    if units.whole:
        return Gathered(size * units.layer, 0)
    kept = units.root + units.tail
    cast = ceil_div(units.layer, plan.shard_degree) if mixed and plan.engine == "fsdp1" else 0
    if plan.reshard_after_forward is False and plan.shard_degree > 1:
        return Gathered(size * (kept + units.embedding + units.layer * units.num_layers), 0)
    buffers = 2 * units.layer if plan.engine == "fsdp2" else cast
    return Gathered(size * kept, size * (units.layer + buffers))


def gathered_of_copy(copy: LaunchPlan, model: ModelSpec) -> Gathered:
    """Return what a second copy, which TRL prepares alone, has whole in a forward."""
    if trains_actor(copy):  # wrapped as the actor is, on the host again when it has run
        return Gathered(0, sum(gathered_in_forward(copy, model)))
    own = copy.script_facts.step_loss
    own = None if own is not None and own.is_prepared_below else own
    if own is not None and own.partitions_copy and copy.engine == "zero3":
        compute = precision_of(copy, model).bytes_of("compute")
        return Gathered(0, compute * live_in_forward(copy, model, skips_head(copy)))
    if is_of_torchtune(copy):  # sharded as the policy is (full_dpo_distributed.py:506-570, 0.6.1)
        return gathered_in_forward(copy, model)
    if not is_of_trl(copy) and not is_of_llamafactory(copy) and not is_of_swift(copy):
        return Gathered(0, 0)  # the least: how others wrap it was not read
    mixed = copy.mixed_precision != "no"
    compute = precision_of(copy, model).bytes_of("compute")
    if copy.engine == "zero3":
        return Gathered(0, compute * live_in_forward(copy, model, skips_head(copy)))
    if not copy.is_fsdp or (copy.shard_degree == 1 and not mixed):
        return Gathered(0, 0)
    loaded = dtype_bytes(load_dtype(copy, model))
    size = compute if mixed else loaded
    if copy.engine == "fsdp2":
        whole = size * model.num_params
        if copy.reshard_after_forward is False:
            return Gathered(whole, 0)
        # what came in one piece, and the parameters copied out of it
        return Gathered(0, 2 * whole)
    units = wrap_units(copy, model)
    cast = ceil_div(units.layer, copy.shard_degree) if loaded != size else 0
    if copy.reshard_after_forward is False and copy.shard_degree > 1:
        return Gathered(size * (units.root + units.layer * units.num_layers), 0)
    return Gathered(size * units.root, size * (units.layer + cast))


def released_at_head(copy: LaunchPlan, model: ModelSpec) -> int:
    """Return what a second copy has let go of, of what it had gathered in its forward, when its head computes."""
    if copy.engine != "zero3":
        return 0
    size = precision_of(copy, model).bytes_of("compute")
    return max(0, gathered_of_copy(copy, model).passing - size * tail_elements(model))


def fetched_ahead(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes that ZeRO-3 has whole beside the head when a policy's forward with its adapter off begins."""
    elements = ahead_of_adapter(plan, model) - tail_elements(model)
    return precision_of(plan, model).bytes_of("compute") * elements


def freed_buffers(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the gather buffers that FSDP2 has while the policy's head computes and frees when its root is done, before
    another model runs (torch/distributed/fsdp/_fully_shard/_fsdp_state.py _post_forward, 2.13)."""
    if plan.engine != "fsdp2" or plan.loss == "full_logits" or gathers_head_itself(plan, model):
        return 0
    units = wrap_units(plan, model, padded=True)
    layer = 0 if plan.reshard_after_forward is False else units.layer
    gathers = precision_of(plan, model).bytes_of(
        "compute" if plan.mixed_precision != "no" else "frozen"
    )
    return gathers * (units.tail + layer) if units.tail else 0


def autocast_copies(plan: LaunchPlan, model: ModelSpec, with_head: bool = False) -> int:
    """Return the copies of fp32 matrices that a forward's autocast makes and keeps to its end; a frozen one's is not kept."""
    wide = dtype_bytes(load_dtype(plan, model)) == 4
    if not wide or not uses_autocast(plan) or plan.adapter is not None:
        return 0
    if plan.engine not in ("single", "ddp"):
        return 0
    roles = ("layer", "lm_head") if with_head else ("layer",)
    elements = sum(
        held.count * held.tensor.num_params
        for held in held_tensors(plan, model)
        if held.unit.role in roles and len(held.tensor.shape) > 1
    )
    if with_head and model.tied:
        elements += model.embedding_params
    return precision_of(plan, model).bytes_of("compute") * elements


def held_with_logits(
    plan: LaunchPlan, model: ModelSpec, tokens: int, scoring: Scoring, has_graph: bool
) -> int:
    """Return what lives as long as a model's logits: hidden states of every layer, or keys and values, beyond what a graph
    holds of them, or the logits of the rows before.

    A graph holds the inputs of checkpointed layers, of norms in fp32 and of torch's LayerNorm; an RMSNorm in 16 bits
    keeps a copy in fp32 (transformers/models/llama/modeling_llama.py LlamaRMSNorm, 4.44.2 to 5.24.0). Keys that
    attention repeats for more queries are held beside their copies; under checkpointing a model that trains caches none.
    Around a forward under autocast accelerate casts all that is returned to fp32: of 16 bits these are copies, which no
    graph holds (accelerate/utils/operations.py convert_outputs_to_fp32, 1.15.0).
    """
    is_checkpointed = plan.activation_checkpointing != "none"
    found = 0
    if scoring.keeps_hidden_states:
        is_cast = uses_autocast(plan) and stream_element_bytes(plan, model) < 4
        found += (
            hidden_states(plan, model, tokens)
            if is_cast
            else outputs_of_layers(plan, model, tokens, has_graph)
        )
    if scoring.keeps_hidden_states and scoring.reads == OF_STEP:  # what the last norm was given
        found += stream_element_bytes(plan, model) * tokens * model.hidden_size
    if scoring.scores_others and not scoring.drops_logits and not has_graph:
        found += 4 * tokens * local_vocab(plan, model.vocab_size)
    trains = has_graph or reference_of(plan) != "same"
    is_dropped = has_graph and scoring.reads == OF_STEP  # with the policy's outputs, at its head
    if scoring.caches_keys and not is_dropped and plan.seq_len and not (trains and is_checkpointed):
        shape = model.layers[0].layer if model.layers else None
        repeats = shape is not None and shape.num_kv_heads < shape.num_heads
        if not has_graph or (repeats and not READS_GROUPED_KEYS.holds_in(plan.versions)):
            found += cache_bytes(plan, model, tokens // plan.seq_len, plan.seq_len)
    return found


def outputs_of_layers(plan: LaunchPlan, model: ModelSpec, tokens: int, has_graph: bool) -> int:
    """Return what `output_hidden_states` keeps of layers, beyond what a graph holds of it (held_with_logits)."""
    size = stream_element_bytes(plan, model)
    is_checkpointed = plan.activation_checkpointing != "none"
    is_saved = is_checkpointed or size == 4 or model.facts.get("norm") == "layernorm"
    num_layers = sum(unit.count for unit in model.layers)
    return 0 if has_graph and is_saved else size * tokens * model.hidden_size * num_layers


def hidden_states(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return what `output_hidden_states` keeps: the embeddings, and every layer's output, as a forward returns them."""
    size = 4 if uses_autocast(plan) else stream_element_bytes(plan, model)
    return size * tokens * model.hidden_size * (model.num_layers + 1)


def _of_logits(plan: LaunchPlan, model: ModelSpec, tokens: int) -> int:
    """Return what log-probabilities of whole logits take: the model's own, a copy that is divided by the temperature
    unless that is done in place, and in 16 bits the softmax of one row and of the next."""
    size = precision_of(plan, model).bytes_of("logits")
    outputs = 4 if uses_autocast(plan) else size
    rules = completion_rules(plan)
    each = 2 * outputs if rules.divides_apart else outputs
    if outputs != size:
        each = max(each, size + outputs)
    rows = num_sequences(plan)
    of_rows = (
        0
        if outputs == 4 and not rules.keeps_softmax
        else ceil_div(min(2, rows) * outputs * tokens, rows)
    )
    if not rules.holds_twice:  # the model's own are gone when rows are scored
        return max(each * tokens, outputs * tokens + of_rows) * model.vocab_size
    return (each * tokens + of_rows) * model.vocab_size


def scored_forward(plan: LaunchPlan, model: ModelSpec, tokens: int) -> ForwardBytes | None:
    """Return what a forward of some tokens takes whose head scores them in chunks; None without a layer's formula."""
    layer = model.largest_layer
    if not tokens or layer is None or layer.layer is None:
        return None
    hidden = stream_element_bytes(plan, model) * tokens * model.hidden_size
    beside = 0
    scoring = scoring_of(plan)
    if scoring is not None:
        found = logits_of_pairs(plan, model, tokens, scoring)
        at_head = (found.evaluation if plan.objective in ONLINE else found.reference) + hidden
        beside = held_with_logits(plan, model, tokens, scoring, has_graph=False)
    elif trains_actor(plan):
        size = precision_of(plan, model).bytes_of("logits")
        logits = size * tokens * local_vocab(plan, model.vocab_size)
        at_head = ceil(actor_units(plan).scoring * logits) + hidden
    elif reads_completion_logits(plan):
        at_head = _of_logits(plan, model, tokens_with_logits(plan, tokens)) + hidden
    elif plan.objective == "dpo" and takes_ligers_chunks(plan):
        at_head = hidden  # its head is part of the loss
    else:
        head = head_bytes(plan, model, tokens)
        at_head = head.forward + head.kept + hidden
    costs = layer_costs(plan, model, layer, precision_of(plan, model))
    # the embeddings live until the last layer is done
    at_layer = tokens * costs.forward_checkpointed + 2 * hidden
    return ForwardBytes(at_head + beside, at_layer + beside)

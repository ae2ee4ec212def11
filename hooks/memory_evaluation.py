"""Device memory of an evaluation batch: logits, what passes through a layer, and what the engine gathers for it.

Nothing is saved for a backward pass. Counted on real ranks by tests/formulas/test_real_phases.py, where
G is a layer, c the bytes of the gathered dtype and P the model:

    FSDP2    c tail      gathered by the first batch and kept: no backward pass frees it
             3 cG        the layer, its buffer and the next one's; cP where layers stay gathered
    FSDP1    c root      kept like the tail
             cG + cG/W   the layer, and its shard in the compute dtype; cP where layers stay gathered
    ZeRO-3   c live      as at the loss of a step: the training trace decides what is used again
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.deepspeed_rules import live_parameters
from preflight.formulas.layer_costs import layer_costs
from preflight.formulas.objective import is_scored, sequences_per_sample
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import held_tensors, wrap_units
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

EVALUATION = frozenset({Moment.EVALUATION})
FSDP_SOURCE = "torch/distributed/fsdp (2.13): forward without a backward pass"


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price an evaluation batch."""
    if plan.eval_micro_batch_size is None or plan.seq_len is None or not model.is_decoder_lm:
        return
    precision = precision_of(plan, model)
    tokens = sequences_per_sample(plan) * plan.eval_micro_batch_size * plan.seq_len
    logits = 0
    if plan.loss in (None, "full_logits") and not is_scored(plan):
        size = precision.bytes_of("logits") + 8
        logits = size * tokens * model.vocab_size
        yield MemoryTerm(
            "logits of an evaluation batch",
            logits,
            EVALUATION,
            f"{tokens:,} x {model.vocab_size:,} x {size}",
            "transformers/loss/loss_utils.py ForCausalLMLoss, nothing saved for backward",
        )
    kept, passing = _gathered(plan, model)
    if kept:
        yield MemoryTerm(
            "parameters gathered for evaluation",
            kept,
            EVALUATION,
            f"{kept:,}",
            FSDP_SOURCE if plan.is_fsdp else "deepspeed partitioned_param_coordinator.py (0.19.8)",
        )
    layer = model.largest_layer
    activations = 0
    if layer is not None and layer.layer is not None:
        each = layer_costs(plan, model, layer, precision).forward_checkpointed
        activations = tokens * each
        if plan.base_quantization is not None:
            packed = (h.tensor.num_params for h in held_tensors(plan, model) if h.quantized)
            activations += precision.bytes_of("compute") * max(packed, default=0)
    beyond = max(0, passing + activations - logits)
    if beyond:
        yield MemoryTerm(
            "a layer of an evaluation batch, beyond the logits",
            beyond,
            EVALUATION,
            f"{passing:,} gathered + {activations:,} in passing - {logits:,}",
            FSDP_SOURCE if plan.is_fsdp else "preflight/formulas/layer_costs.py",
        )


def _gathered(plan: LaunchPlan, model: ModelSpec) -> tuple[int, int]:
    """Return the bytes gathered for the whole batch, and those of the layer at hand."""
    precision = precision_of(plan, model)
    if plan.engine == "zero3":
        return precision.bytes_of("compute") * live_parameters(plan, model), 0
    mixed = plan.mixed_precision != "no"
    if not plan.is_fsdp or (plan.shard_degree == 1 and not mixed):
        return 0, 0
    size = precision.bytes_of("compute" if mixed else "frozen")
    units = wrap_units(plan, model)
    if units.whole:
        return size * units.layer, 0
    kept = units.root + units.tail
    cast = ceil_div(units.layer, plan.shard_degree) if mixed and plan.engine == "fsdp1" else 0
    if plan.reshard_after_forward is False and plan.shard_degree > 1:
        return size * (kept + units.embedding + units.layer * units.num_layers), 0
    buffers = 2 * units.layer if plan.engine == "fsdp2" else cast
    return size * kept, size * (units.layer + buffers)

"""Device memory for gathering a checkpoint, counted on real ranks by tests/formulas/test_real_phases.py, or two models.

FSDP2, full      one parameter, or one optimizer state of it, whole
FSDP1, full      one unit whole, in its stored dtype; then a state of it, and two shards of that
FSDP1, sharded   the root unit and a layer whole, one inside the other
FSDP2, sharded   nothing: every rank writes what it has
ZeRO-3           one parameter whole, where 16-bit weights are gathered on save
ZeRO-0, 1, 2     nothing: the copy is made on the host (memory_host)
ZeRO-3, with TRL's sync_ref_model: policy and reference whole, every so many steps, with as much beside them as a checkpoint has
"""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.objective import reference_of
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import (
    held_tensors,
    saves_shards,
    shards_quantized_base,
    wrap_units,
)
from preflight.formulas.stored_bytes import whole_bytes
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

SAVE = frozenset({Moment.SAVE})


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what a rank gathers for the checkpoint."""
    if plan.engine == "fsdp1":
        yield from _fsdp1(plan, model)
        return
    both = _synchronised(plan, model)
    if both:
        yield MemoryTerm(
            "both models gathered to synchronise them",
            both,
            SAVE,
            f"2 models, {both:,}; a parameter of a checkpoint is gathered at another time",
            "trl/trainer/callbacks.py SyncRefModelCallback (0.9 to 1.16.0)",
        )
        return
    gathers = plan.engine == "fsdp2" and not saves_shards(plan)
    gathers = gathers or (
        plan.engine == "zero3"
        and plan.deepspeed is not None
        and plan.deepspeed.stage3_gather_16bit_weights_on_model_save
    )
    if not gathers or plan.shard_degree == 1:
        return
    precision = precision_of(plan, model)
    held = [h for h in held_tensors(plan, model) if not h.quantized or shards_quantized_base(plan)]
    largest = max((whole_bytes(plan, precision, h) for h in held), default=0)
    if plan.engine == "fsdp2":
        # the states are gathered like the parameters, one tensor of one state at a time
        size = precision.bytes_of("optimizer_state")
        states = max((size * h.tensor.num_params for h in held if h.trains), default=0)
        largest = max(largest, states)
    yield MemoryTerm(
        "one parameter gathered for the checkpoint",
        largest,
        SAVE,
        f"{largest:,}: the largest, whole",
        "torch/distributed/_state_dict_utils.py _gather_state_dict (2.13);"
        " deepspeed/runtime/engine.py:5631 (0.19.8)",
    )


def _synchronised(plan: LaunchPlan, model: ModelSpec) -> int:
    """Return the bytes of policy and reference in the compute dtype where ZeRO-3 gathers all of both at once to bring the
    reference up to date: 17,243,136 of 4,310,784 parameters were counted on two ranks of TRL 1.16.0."""
    syncs = plan.trainer == "trl" and plan.trainer_facts.value("sync_ref_model", False) is True
    if (
        not syncs
        or plan.engine != "zero3"
        or plan.shard_degree == 1
        or reference_of(plan) != "same"
    ):
        return 0
    elements = sum(held.count * held.tensor.num_params for held in held_tensors(plan, model))
    return 2 * precision_of(plan, model).bytes_of("compute") * elements


def _fsdp1(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    if plan.shard_degree == 1:
        return  # NO_SHARD: every rank has the whole unit already
    precision = precision_of(plan, model)
    units, trains = wrap_units(plan, model), wrap_units(plan, model, trains_only=True)
    whole = precision.whole_bytes
    layer, root = whole(units.layer, trains.layer), whole(units.root, trains.root)
    sharded = plan.state_dict_type == "sharded"
    # a full unit goes to the host before the units inside it are gathered; a sharded one stays
    weights = layer + root if sharded else max(layer, root)
    state = precision.bytes_of("optimizer_state") * max(trains.layer, trains.root)
    states = state + 2 * ceil_div(state, plan.shard_degree)
    yield MemoryTerm(
        "units gathered for the checkpoint",
        max(weights, states),
        SAVE,
        f"the larger of {weights:,} ({'root and a layer' if sharded else 'one unit'}) and"
        f" {state:,} + 2 x {state:,} / {plan.shard_degree} (one state of a unit, its shard,"
        " and that of the state before)",
        "torch/distributed/fsdp/_state_dict_utils.py, _optim_utils.py"
        " _allgather_orig_param_states (2.13)",
    )

"""What FSDP holds in passing during a step, by how it divides the model: in units, as one, or over stages of a pipeline."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.fsdp2_terms import fsdp2_terms
from preflight.formulas.engines.fsdp_gathers import (
    EMBEDDING,
    END,
    FSDP1_SOURCE,
    FSDP2_SOURCE,
    HEAD,
    Gathers,
)
from preflight.formulas.engines.pipelines import kept_in_flight
from preflight.formulas.engines.rollouts import between_micro_steps
from preflight.formulas.precision import precision_of
from preflight.launch import LaunchPlan
from preflight.memory import STEP_MOMENTS, MemoryTerm
from preflight.model import ModelSpec
from preflight.values import replace


def fsdp_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Yield what a rank holds in passing; the tables in hooks/memory_sharding.py are their sum."""
    gathers = Gathers.of(plan, model)
    if gathers.units.whole:
        yield from _one_unit(gathers)
    elif plan.pipeline is not None and plan.pipeline.rank is not None:
        yield from _pipelined(gathers)
    elif plan.engine == "fsdp2":
        yield from fsdp2_terms(gathers)
    else:
        from preflight.formulas.engines.fsdp1_terms import fsdp1_terms  # of the older engine

        yield from fsdp1_terms(gathers)
    trains = gathers.trains
    total = trains.layer * trains.num_layers + trains.embedding + trains.tail + trains.root
    if gathers.accumulates and total:
        yield gathers.term(
            "gradients, unsharded between micro steps",
            total,
            (*STEP_MOMENTS, *between_micro_steps(plan)),
            size=gathers.reduced_size,  # to_accumulated_grad_if_needed (_fsdp_param.py)
            source="transformers/trainer.py:1904 (5.24.0), accelerate/accelerator.py:1166 (1.15.0): no_sync",
        )


def _one_unit(gathers: Gathers) -> Iterable[MemoryTerm]:
    """Nothing is wrapped: every parameter is gathered for the whole step."""
    trained, source = gathers.trains.layer, f"{FSDP2_SOURCE}; {FSDP1_SOURCE}"
    name = "gathered parameters (one unit)"
    yield gathers.term(name, gathers.units.layer, STEP_MOMENTS, source=source)
    if trained:
        yield gathers.term("unsharded gradients (one unit)", trained, END, source=source)
        name, size = "reduce-scatter input (one unit)", gathers.reduced_size
        yield gathers.term(name, trained, (EMBEDDING,), size=size, source=source)


def _pipelined(gathers: Gathers) -> Iterable[MemoryTerm]:
    """The stages of a rank stay gathered over all micro batches; their gradients are reduced after the last backward."""
    source = "torch/distributed/pipelining/stage.py backward_maybe_with_nosync, perform_reduce_grad (2.13)"
    gathers = replace(gathers, source=source)
    units, trains = gathers.units, gathers.trains
    whole = units.layer * units.num_layers + units.embedding + units.tail + units.root
    yield gathers.term("gathered parameters of the stages", whole, STEP_MOMENTS)
    yield gathers.layer_gradients()
    if trains.tail:
        yield gathers.term("unsharded gradient of the tail", trains.tail, (HEAD,))
    yield gathers.term("dense gradient of the embedding", trains.embedding, (EMBEDDING,))
    largest = max(trains.layer, trains.embedding, trains.tail, trains.root)
    in_flight = kept_in_flight(
        gathers.plan, gathers.model, precision_of(gathers.plan, gathers.model)
    ).late
    yield gathers.bytes(
        "reduce-scatter input of a unit",
        max(0, gathers.reduced_size * largest - in_flight),
        (EMBEDDING,),
        f"{largest:,} x {gathers.reduced_size} beyond {in_flight:,} of micro batches, which are gone by then",
    )

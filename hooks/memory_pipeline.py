"""Pipelines: micro batches in flight, and the buffers that their hidden states are received into."""

from __future__ import annotations

from collections.abc import Iterable

from preflight.formulas.engines.pipelines import in_flight, kept_in_flight, num_buffers
from preflight.formulas.precision import precision_of
from preflight.formulas.sharding import num_tokens
from preflight.formulas.tensor_parallel import cuts_stream
from preflight.hookspecs import hookimpl
from preflight.launch import LaunchPlan
from preflight.memory import ALWAYS, STEP_MOMENTS, MemoryTerm, Moment
from preflight.model import ModelSpec
from preflight.units import ceil_div

END = (Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD)


@hookimpl
def preflight_memory_terms(plan: LaunchPlan, model: ModelSpec) -> Iterable[MemoryTerm]:
    """Price what the rank of a pipeline holds beside one micro batch."""
    pipeline, tokens = plan.pipeline, num_tokens(plan)
    if pipeline is None or pipeline.rank is None or not tokens:
        return
    precision = precision_of(plan, model)
    source = "torch/distributed/pipelining/schedules.py, stage.py (2.13)"
    kept = kept_in_flight(plan, model, precision)
    held = f"{in_flight(pipeline)} of {pipeline.num_micro_batches} micro batches x {pipeline.stages_per_rank} stages"
    for name, num_bytes, moments in (
        ("other micro batches in flight", kept.early, set(STEP_MOMENTS) - set(END)),
        ("other micro batches in flight, first layer", kept.late, set(END)),
    ):
        formula = f"{held}, {pipeline.schedule}: {num_bytes:,}"
        yield MemoryTerm(name, num_bytes, frozenset(moments), formula, source)
    width = precision.bytes_of("compute") * model.hidden_size
    hidden = tokens * width
    if cuts_stream(plan):
        hidden = ceil_div(hidden, plan.tensor_parallel_degree)
    yield MemoryTerm(
        "buffers of the pipeline",
        num_buffers(pipeline) * hidden,
        ALWAYS,
        f"{num_buffers(pipeline)} x {hidden:,}: one for each micro batch that is received, made once",
        source,
    )

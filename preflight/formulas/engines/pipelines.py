"""What each rank of a pipeline has of a model, and how many micro batches it holds at once.

Layers are divided as torchtitan does: embedding and head count as layers of the first and the last stage, and what does
not divide goes to the first stages (distributed/pipeline_parallel.py generate_llm_fqn_per_model_part, 0.2.2). Stage s is
on rank s modulo the ranks of the pipeline.

Micro batches that are forwarded and not yet backwarded (torch/distributed/pipelining/schedules.py, 2.13):

    gpipe, looped_bfs   all of them, in every stage
    1f1b                as many as there are stages from this one to the last
    interleaved_1f1b    the rank's warm-up and one, counted in stages
"""

from __future__ import annotations

from collections.abc import Iterator

from preflight.formulas.precision import Precision
from preflight.formulas.sharding import held_tensors, num_tokens
from preflight.formulas.tensor_parallel import divided_elements, local_vocab
from preflight.launch import LaunchPlan, Pipeline
from preflight.model import ModelSpec
from preflight.units import ceil_div, dtype_bytes
from preflight.values import NamedTuple, replace


class InFlight(NamedTuple):
    """Bytes of micro batches that wait for their backward."""

    early: int
    """Up to the backward of the last layer."""
    late: int
    """In the backward of the first layer and of the embedding."""


def stage_layers(num_layers: int, num_stages: int, first_less: int, last_less: int) -> list[int]:
    """Return the layers of each stage; fewer than none where the stages are too many."""
    share, more = divmod(num_layers + first_less + last_less, num_stages)
    layers = [share + (stage < more) for stage in range(num_stages)]
    layers[0] -= first_less
    layers[-1] -= last_less
    return layers


def layers_of_rank(pipeline: Pipeline, num_layers: int, rank: int) -> list[int]:
    """Return the layers of each stage of one rank."""
    num_stages = pipeline.degree * pipeline.stages_per_rank
    layers = stage_layers(num_layers, num_stages, pipeline.first_less, pipeline.last_less)
    return layers[rank :: pipeline.degree]


def is_divisible(pipeline: Pipeline, model: ModelSpec) -> bool:
    """Tell whether the stages of a model are known: its layers are of one kind, enough, and no weight is in two stages."""
    pipeline = _with_stages(pipeline, model.num_layers)
    num_stages = pipeline.degree * pipeline.stages_per_rank
    layers = stage_layers(model.num_layers, num_stages, pipeline.first_less, pipeline.last_less)
    return len(model.layers) == 1 and min(layers) > 0 and not model.tied


def _with_stages(pipeline: Pipeline, num_layers: int) -> Pipeline:
    """Return a pipeline with the stages of a rank that follow from the layers of a stage."""
    if pipeline.layers_per_stage is None:
        return pipeline
    whole = num_layers + pipeline.first_less + pipeline.last_less
    stages = ceil_div(whole, pipeline.layers_per_stage)
    return replace(pipeline, stages_per_rank=max(1, stages // pipeline.degree))


def each_rank(plan: LaunchPlan, model: ModelSpec) -> Iterator[tuple[LaunchPlan, ModelSpec]]:
    """Yield plan and model of the ranks that may be the fullest.

    Those are the first, which holds most micro batches and the embedding, the last with the head, and the second:
    the ranks between it and the last have no more layers and no more micro batches.
    """
    assert plan.pipeline is not None
    pipeline = _with_stages(plan.pipeline, model.num_layers)
    for rank in sorted({0, min(1, pipeline.degree - 1), pipeline.degree - 1}):
        yield on_rank(plan, pipeline, rank), part_of(model, pipeline, rank)


def on_rank(plan: LaunchPlan, pipeline: Pipeline, rank: int) -> LaunchPlan:
    """Return the plan of one rank, whose gradients add up over the micro batches and are reduced after the last."""
    return replace(
        plan,
        pipeline=replace(pipeline, rank=rank),
        gradient_accumulation_steps=max(2, plan.gradient_accumulation_steps),
        sync_each_batch=False,
        keeps_outputs=rank == pipeline.degree - 1 or plan.keeps_outputs,
    )


def part_of(model: ModelSpec, pipeline: Pipeline, rank: int) -> ModelSpec:
    """Return what one rank has of a model whose layers are of one kind."""
    has_head = rank == pipeline.degree - 1
    left_out = set() if rank == 0 else {"embedding"}
    left_out |= set() if has_head else {"lm_head", "final_norm"}
    num_layers = sum(layers_of_rank(pipeline, model.num_layers, rank))
    units = tuple(
        replace(unit, count=num_layers, places=tuple(range(num_layers)))
        if unit.role == "layer"
        else unit
        for unit in model.units
        if unit.role not in left_out
    )
    vocab_size = model.vocab_size if has_head else 0
    return replace(model, units=units, num_layers=num_layers, vocab_size=vocab_size)


def in_flight(pipeline: Pipeline) -> int:
    """Return the forwards of single stages whose backward is to come, at most, on the rank of a pipeline."""
    num, local = pipeline.num_micro_batches, pipeline.stages_per_rank
    later = pipeline.degree - 1 - (pipeline.rank or 0)
    if pipeline.schedule == "1f1b":
        return min(num, later + 1)
    if pipeline.schedule == "interleaved_1f1b":
        in_round = num // max(1, num // pipeline.degree)
        return min(num * local, (local - 1) * in_round + 2 * later + 1)
    return num * local


def kept_by_stages(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> int:
    """Return what all stages of a rank keep of one micro batch from forward to backward, in bytes, its buffers apart."""
    from preflight.formulas.layers.layer_costs import layer_costs  # of no launch without a pipeline

    pipeline, mode, tokens = plan.pipeline, plan.activation_checkpointing, num_tokens(plan)
    assert pipeline is not None
    kept = 0
    for unit in model.layers:
        if unit.layer is None:
            continue
        cost = layer_costs(plan, model, unit, precision)
        kept += unit.count * tokens * cost.kept(mode)
        if mode == "full":  # what the first layer of a stage keeps was received
            kept -= tokens * cost.residual * (pipeline.stages_per_rank - (pipeline.rank == 0))
    if not waits_with_logits(plan) or not model.vocab_size:
        return kept
    compute = precision.bytes_of("compute")
    norm = (4 + 2 * compute) * model.hidden_size + 4  # in fp32, normalised, and the head's input
    logits = (precision.bytes_of("logits") + 4) * local_vocab(plan, model.vocab_size)
    return kept + tokens * (norm + logits)  # and log-probabilities


def waits_with_logits(plan: LaunchPlan) -> bool:
    """Tell whether logits of several micro batches wait for their backward: under 1F1B the last stage's follows at once."""
    return plan.pipeline is not None and not plan.pipeline.schedule.endswith("1f1b")


def kept_in_flight(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> InFlight:
    """Return what a rank keeps of micro batches beyond the one that is estimated, in bytes.

    Where all of them are forwarded first, none of those gradients is there that the estimate has through the whole
    step: they come with the first backward, and then the first micro batch is gone.
    """
    pipeline = plan.pipeline
    assert pipeline is not None
    kept = kept_by_stages(plan, model, precision)
    held = ceil_div(kept * in_flight(pipeline), pipeline.stages_per_rank)
    late = max(0, held - kept)
    if pipeline.schedule.endswith("1f1b"):
        return InFlight(late, late)
    of_one = ceil_div(kept, pipeline.stages_per_rank)
    early = max(0, late - of_one) + max(0, of_one - _accumulated(plan, model, precision))
    return InFlight(min(early, late), late)


def _accumulated(plan: LaunchPlan, model: ModelSpec, precision: Precision) -> int:
    """Return the bytes of gradients that add up over micro batches: under FSDP whole, in the dtype that reduces."""
    size = precision.bytes_of("gradient")
    if plan.is_fsdp and plan.reduce_dtype:
        size = dtype_bytes(plan.reduce_dtype)
    return size * sum(
        held.count * divided_elements(plan, held.unit, held.tensor)
        for held in held_tensors(plan, model)
        if held.trains
    )


def num_buffers(pipeline: Pipeline) -> int:
    """Return the hidden states that a rank receives into, each with memory of its own: inputs, and gradients of outputs."""
    rank, local = pipeline.rank or 0, pipeline.stages_per_rank
    inputs = local - (rank == 0)
    gradients = local - (rank == pipeline.degree - 1)
    return (inputs + gradients) * pipeline.num_micro_batches

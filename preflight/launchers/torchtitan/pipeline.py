"""How torchtitan divides a model over the stages of a pipeline.

Source: torchtitan 0.2.2 and 0.3.0 (distributed/pipeline_parallel.py pipeline_llm, build_pipeline_schedule).
"""

from __future__ import annotations

from preflight.launch import Pipeline
from preflight.launchers.framework_keys import NotModelled
from preflight.launchers.torchtitan.degrees import TitanReader

SCHEDULES = {
    "1f1b": "1f1b",
    "gpipe": "gpipe",
    "interleaved1f1b": "interleaved_1f1b",
    "loopedbfs": "looped_bfs",
}
"""torch's name in lower case, which is how it looks it up -> the plan's (get_schedule_class, 2.13)."""
DIVIDED_BY_HAND = ("module_fqns_per_model_part", "pipeline_parallel_schedule_csv")
KEEPS_OUTPUTS = ("0.1.0", "0.2.0")
"""Releases whose step gets the outputs of all micro batches, and the first divides at names of its own."""


def read_pipeline(reader: TitanReader, degree: int) -> bool:
    """Put the stages of a pipeline; name what is not priced of it, and return False, where that is so."""
    keys = reader.keys
    at = reader.at("parallelism.pipeline_parallel_degree", degree)
    if degree == 1:
        return True
    name = str(reader.value("parallelism.pipeline_parallel_schedule"))
    schedule = SCHEDULES.get(name.lower())
    by_hand = next((k for k in DIVIDED_BY_HAND if reader.value(f"parallelism.{k}")), None)
    unpriced = ""
    if by_hand is not None:
        unpriced = f"stages that {by_hand} says"
    elif schedule is None:
        unpriced = f"micro batches in flight under {name}"
    elif reader.config.version in KEEPS_OUTPUTS:
        unpriced = "a pipeline of an older torchtitan"
    if unpriced or schedule is None:
        message = f"every rank is estimated with all layers: {unpriced} is not priced"
        keys.leave_out(NotModelled(message, unpriced, "either"), at)
        return False
    micro = reader.degree("parallelism.pipeline_parallel_microbatch_size")
    batch = reader.degree("training.local_batch_size")
    if batch % micro:
        keys.refuse(
            f"pipeline_parallel_microbatch_size {micro} does not divide local_batch_size {batch}",
            keys.get("parallelism.pipeline_parallel_microbatch_size", "training.local_batch_size")
            or at,
        )
    per_stage = reader.value("parallelism.pipeline_parallel_layers_per_stage")
    pipeline = Pipeline(
        degree=degree,
        schedule=schedule,
        num_micro_batches=max(1, batch // micro),
        stages_per_rank=1 if schedule in ("1f1b", "gpipe") else 2,
        layers_per_stage=per_stage if isinstance(per_stage, int) else None,
        first_less=_less(reader, "first"),
        last_less=_less(reader, "last"),
    )
    keys.put("pipeline", pipeline, at)
    return True


def _less(reader: TitanReader, end: str) -> int:
    value = reader.value(f"parallelism.pipeline_parallel_{end}_stage_less_layers")
    return value if isinstance(value, int) else 1

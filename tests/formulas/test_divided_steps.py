"""Models divided over ranks in every way that is priced: steps counted on gloo ranks, beside the estimate.

divided_titan.py, divided_accelerate.py and divided_axolotl.py make the rows again, in an environment with the libraries
that a row names. Rows of axolotl have the degrees and dtypes that its reader finds in their config.
Counts are of the fullest rank of each row.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from divided_sizes import BUCKETS, SIZES
from recorded import recorded

from preflight.judge import estimate_memory
from preflight.launch import LaunchCommand, LaunchPlan, Pipeline
from preflight.launchers.axolotl import LAUNCHER
from preflight.memory import Level, MemoryEstimate, Moment
from preflight.models import describe
from preflight.plan_parts import DeepSpeedSettings

ROWS = recorded("divided_steps.jsonl")
TOO_LOW, TOO_HIGH = 0.02, 0.04
"""Of the peak of a step. What is counted and not allocated is a layer gathered or a gradient of so few layers."""
SCHEDULES = {"1F1B": "1f1b", "GPipe": "gpipe", "Interleaved1F1B": "interleaved_1f1b"}
CHECKPOINTING = {"selective": "selective_op"}
LIBRARIES = ("torchtitan", "axolotl", "transformers", "accelerate", "torch")
STEP = (
    Moment.FORWARD,
    Moment.LOSS_FORWARD,
    Moment.LOSS_BACKWARD,
    Moment.HEAD_BACKWARD,
    Moment.LAST_LAYER_BACKWARD,
    Moment.FIRST_LAYER_BACKWARD,
    Moment.EMBEDDING_BACKWARD,
)


def label_of(row: dict[str, Any]) -> str:
    library = next(name for name in LIBRARIES if name in row)
    return f"{library} {row[library]}: {row['name']}"


def pipeline_of(row: dict[str, Any]) -> Pipeline | None:
    if "pipeline" not in row:
        return None
    return Pipeline(
        degree=row["pipeline"],
        schedule=SCHEDULES[row["schedule"]],
        num_micro_batches=row["batch"] // row.get("microbatch", 1),
        stages_per_rank=2 if row["schedule"].startswith("Interleaved") else 1,
        first_less=row.get("first_less", 1),
        last_less=row.get("last_less", 1),
    )


def axolotl_plan_of(row: dict[str, Any]) -> LaunchPlan:
    """Return the plan that the reader makes of a row's config, with rows and attention as they were counted."""
    config = {
        "base_model": "tiny",
        "datasets": [{"path": "rows", "type": "alpaca"}],
        "micro_batch_size": row["batch"],
        "gradient_accumulation_steps": 1,
        "sequence_len": row["length"],
        "learning_rate": 1e-4,
        "optimizer": "adamw_torch_fused" if row.get("shard", 1) > 1 else "adamw_torch",
        "gradient_checkpointing": row.get("checkpointing") == "full",
        **row["config"],
    }
    words = ("torchrun", "--nproc-per-node", str(len(row["ranks"])), "-m", "axolotl.cli.train")
    with TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text(yaml.safe_dump(config))
        plan = LAUNCHER.read(LaunchCommand((*words, "config.yaml"), {}, folder))
    assert plan is not None
    versions = {name: row[name] for name in LIBRARIES if name in row}
    is_divided = row.get("tensor", 1) > 1
    return replace(
        plan,
        sequence_kind="fixed",
        attention="sdpa",
        loss="full_logits",
        optimizer_kernel="for_loop" if is_divided else None,
        versions=versions,
    )


def plan_of(row: dict[str, Any]) -> LaunchPlan:
    if "axolotl" in row:
        return axolotl_plan_of(row)
    shard, tensor, replicate, context = (
        row.get(name, 1) for name in ("shard", "tensor", "replicate", "context")
    )
    word = row.get("checkpointing", "none")
    fields: dict[str, Any] = {
        "engine": "fsdp2" if shard > 1 else "single",
        "world_size": len(row["ranks"]),
        "shard_degree": shard,
        "replicate_degree": replicate,
        "tensor_parallel_degree": tensor,
        "context_parallel_degree": context,
        "load_dtype": "fp32",
        "mixed_precision": "bf16",
        "optimizer": "adamw_torch_fused",
        "micro_batch_size": row["batch"],
        "seq_len": row["length"],
        "sequence_kind": "fixed",
        "attention": "sdpa",
        "loss": "full_logits",
        "activation_checkpointing": CHECKPOINTING.get(word, word),
        "versions": {name: row[name] for name in LIBRARIES if name in row},
    }
    if "torchtitan" in row:
        is_sharded, pipeline = shard > 1, pipeline_of(row)
        if pipeline is not None:
            fields["micro_batch_size"] //= pipeline.num_micro_batches
        fields |= {
            "trainer": "torchtitan",
            "master_dtype": "fp32",
            "mixed_precision": "bf16" if is_sharded else "no",
            "reduce_dtype": "fp32" if is_sharded else None,
            "reshard_after_forward": (pipeline is None and "default") if is_sharded else None,
            "wrap_policy": "transformer" if is_sharded else None,
            "max_grad_norm": 1.0,
            "pipeline": pipeline,
            "gradient_accumulation_steps": row.get("accumulation", 1),
            "sync_each_batch": True,
        }
    else:
        fields |= {
            "trainer": "transformers",
            "reshard_after_forward": True if shard > 1 else None,
            # before 5.0 a CPU's rows have a mask
            "sequence_kind": "packed"
            if row.get("packed")
            else "fixed"
            if row["transformers"] >= "5"
            else "padded",
        }
        if "sequence" in row:
            fields |= {
                "engine": row["engine"],
                "sequence_parallel_degree": row["sequence"],
                "deepspeed": DeepSpeedSettings(**BUCKETS),
                "reshard_after_forward": None,
                "optimizer": "adamw_torch",
                "optimizer_kernel": "for_loop",
            }
        elif shard == 1:
            fields |= {"optimizer": "adamw_torch", "optimizer_kernel": "for_loop"}
    return LaunchPlan(**fields)


def estimate_of(row: dict[str, Any], plugins) -> MemoryEstimate:
    model = describe(
        {**SIZES, **row.get("sizes", {}), "num_hidden_layers": row["layers"]}, "tiny", "test"
    )
    return estimate_memory(plan_of(row), model, None, plugins)


def predicted(estimate: MemoryEstimate, *moments: Moment) -> int:
    return max(
        sum(t.num_bytes for t in estimate.terms_at(moment) if t.level is Level.ALLOCATED)
        for moment in moments
    )


@pytest.mark.parametrize("row", ROWS, ids=label_of)
def test_the_peak_of_a_step_is_that_of_the_fullest_rank(row, plugins):
    counted = max(rank["peaks"]["step"] for rank in row["ranks"])

    error = predicted(estimate_of(row, plugins), *STEP) / counted - 1
    assert -TOO_LOW <= error <= TOO_HIGH


@pytest.mark.parametrize("row", ROWS, ids=label_of)
def test_states_between_steps_are_exact(row, plugins):
    """They are those of one of the ranks, in a pipeline of the one that is estimated to be the fullest."""
    terms = estimate_of(row, plugins).terms

    both = (("params", "parameters"), ("states", "optimizer states"))
    for name, words in (
        both[1:] if "engine" in row else both
    ):  # DeepSpeed's are two, and one is in its states
        held = sum(t.num_bytes for t in terms if t.name.startswith(words))
        assert held in {rank[name] for rank in row["ranks"]}

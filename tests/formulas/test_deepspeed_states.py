"""ZeRO's model states: bytes of every live tensor on real DeepSpeed ranks against the formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preflight.judge import estimate_memory
from preflight.launch import DeepSpeedSettings, LaunchPlan
from preflight.memory import Level, Moment
from preflight.models import describe

SCRIPT = Path(__file__).with_name("deepspeed_states.py")
HIDDEN = 256
CONFIG = {
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "intermediate_size": 4 * HIDDEN,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 2048,
    "tie_word_embeddings": False,
}
SMALL_TENSORS_BYTES = 4096
"""Step counters, loss scalers, batch and loss: a few hundred bytes."""


@pytest.mark.launch
@pytest.mark.parametrize(
    ("stage", "world", "second"), [(1, 2, 1), (2, 2, 1), (3, 2, 1), (2, 4, 1), (3, 4, 2)]
)
def test_steady_states_are_what_deepspeed_holds(stage, world, second, plugins, ranks):
    """After two real steps on gloo ranks, between steps: parameters, partitions, states and the stage-3 bucket; and within
    one what ZeRO++ divides over the ranks of a node."""
    printed = ranks.printed(SCRIPT, str(stage), str(HIDDEN), str(second), world=world)
    result = json.loads(next(line for line in printed.splitlines() if "live_bytes" in line))
    model = describe(CONFIG, "tiny", "test")
    plan = LaunchPlan(
        engine=f"zero{stage}", world_size=world, shard_degree=world, mixed_precision="bf16",
        micro_batch_size=1, seq_len=16, trainer="plain_loop", optimizer="adamw_torch",
        deepspeed=DeepSpeedSettings(
            reduce_bucket_size=100_000, stage3_param_persistence_threshold=0, overlap_comm=False,
            zero_hpz_partition_size=second,
        ),
    )  # fmt: skip
    estimate = estimate_memory(plan, model, None, plugins)
    between_steps = sum(
        t.num_bytes
        for t in estimate.terms
        if t.level is Level.ALLOCATED and Moment.EVALUATION in t.moments
    )

    assert model.num_params == result["num_params"]
    assert abs(between_steps - result["live_bytes"]) <= SMALL_TENSORS_BYTES
    in_steps = [t.num_bytes for t in estimate.terms if t.name.startswith("second shards")]
    assert sum(in_steps) == result["second_bytes"]

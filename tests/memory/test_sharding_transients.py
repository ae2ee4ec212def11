"""Every moment of an FSDP2 step: the sum of all terms against `fully_shard` traced on fake tensors."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from preflight.families import describe
from preflight.launch import LaunchPlan
from preflight.memory import Level, Moment
from preflight.pipeline import estimate_memory

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 8192,
    "tie_word_embeddings": False,
}
LAST = CONFIG["num_hidden_layers"] - 1
SCRIPT = Path(__file__).with_name("fsdp2_trace.py")


def traced(config, world, micro, length, checkpointing, reshard, accumulation) -> dict[str, int]:
    arguments = [str(int(x)) for x in (world, micro, length, checkpointing, reshard, accumulation)]
    run = subprocess.run(
        [sys.executable, str(SCRIPT), json.dumps(config), *arguments],
        capture_output=True, text=True, check=True, cwd=SCRIPT.parent,
    )  # fmt: skip
    return json.loads(run.stdout.splitlines()[-1])


CASES = {
    "plain": ({}, 4, 2, 512, False, True, 1),
    "checkpointed": ({}, 4, 2, 512, True, True, 1),
    "few tokens": ({}, 4, 1, 64, True, True, 1),
    "kept gathered": ({}, 4, 2, 512, True, False, 1),
    "accumulating": ({}, 4, 2, 512, True, True, 2),
    "tied": ({"tie_word_embeddings": True}, 4, 2, 512, True, True, 1),
    "small vocabulary": ({"vocab_size": 1024}, 4, 4, 512, True, True, 1),
}


@pytest.mark.parametrize("name", CASES)
def test_every_moment_is_within_a_few_percent_of_the_trace(name, plugins):
    """The peak within 3 %; every moment within 7 %, a lower one only where another moment is higher."""
    more, world, micro, length, checkpointing, reshard, accumulation = CASES[name]
    config = {**CONFIG, **more}
    parts = traced(config, world, micro, length, checkpointing, reshard, accumulation)
    plan = LaunchPlan(
        engine="fsdp2", world_size=world, shard_degree=world, micro_batch_size=micro,
        seq_len=length, mixed_precision="bf16", load_dtype="fp32", trainer="transformers",
        activation_checkpointing="full" if checkpointing else "none", loss="full_logits",
        reshard_after_forward=reshard, gradient_accumulation_steps=accumulation,
        attention="sdpa", sequence_kind="fixed",
    )  # fmt: skip
    estimate = estimate_memory(plan, describe(config, "tiny", "test"), None, plugins)

    def predicted(*moments: Moment) -> int:
        return max(
            sum(t.num_bytes for t in estimate.terms_at(m) if t.level is Level.ALLOCATED)
            for m in moments
        )

    pairs = {
        "forward": (max(parts[f"forward {i}"] for i in range(LAST + 1)), predicted(Moment.FORWARD)),
        "loss forward": (parts["loss_forward"], predicted(Moment.LOSS_FORWARD)),
        "turn": (
            parts["loss_backward"],
            predicted(Moment.LOSS_BACKWARD, Moment.HEAD_BACKWARD),
        ),
        "last layer": (parts[f"backward {LAST}"], predicted(Moment.LAST_LAYER_BACKWARD)),
        "first layer": (parts["backward 0"], predicted(Moment.FIRST_LAYER_BACKWARD)),
    }
    for moment, (real, ours) in pairs.items():
        assert ours == pytest.approx(real, rel=0.07), f"{moment}: traced {real:,}, formula {ours:,}"
    peak = max(real for real, _ in pairs.values())

    assert max(ours for _, ours in pairs.values()) == pytest.approx(peak, rel=0.03)

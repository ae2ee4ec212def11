"""FSDP2's buffers against `fully_shard` on fake tensors: stacks of experts that ranks cannot divide, layers that are many."""

from __future__ import annotations

import pytest

from preflight.derive.costs.formula_table import compare
from preflight.memory import Moment

MODEL = "qwen3_moe"
"""Ten experts in the size that no table was made from."""


def errors(plugins, method: str, checkpointing: bool, length: int, ranks: int) -> dict:
    """Return the relative error of every moment, and of the peak."""
    found = compare(
        MODEL,
        method,
        checkpointing,
        plugins,
        engine="fsdp2",
        world_size=ranks,
        shard_degree=ranks,
        seq_len=length,
    )
    peak = max(c.formula_bytes for c in found) / max(c.traced_bytes for c in found) - 1
    return {**{c.moment: c.error for c in found}, "peak": peak}


@pytest.mark.parametrize(
    ("method", "checkpointing", "ranks"),
    [("LoRA", True, 8), ("LoRA", False, 32), ("full", False, 8)],
)
def test_buffers_have_as_many_experts_as_all_ranks_of_the_fullest(
    plugins, method, checkpointing, ranks
):
    """Ten experts over eight ranks are sixteen in a buffer: without them peaks are up to 29 % too low (Mixtral on 16)."""
    off = errors(plugins, method, checkpointing, 256, ranks)

    assert abs(off["peak"]) < 0.05
    assert off[Moment.FORWARD] == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(("method", "length"), [("full", 256), ("LoRA", 1024)])
def test_the_buffer_of_a_layer_is_gone_when_its_activations_and_the_loss_are_there(
    plugins, method, length
):
    """Counted beside them, forward and loss were 3 to 10 % too high."""
    off = errors(plugins, method, False, length, 5)

    assert abs(off[Moment.FORWARD]) < 0.001
    assert abs(off[Moment.LOSS_FORWARD]) < 0.001


def test_a_recomputed_layer_merges_its_experts_again(plugins):
    """Stacks with adapters are copied with them (PEFT's ParamWrapper): 10 % of the peak of a small model."""
    off = errors(plugins, "LoRA", True, 1024, 5)

    assert abs(off[Moment.LAST_LAYER_BACKWARD]) < 0.001
    assert abs(off["peak"]) < 0.001

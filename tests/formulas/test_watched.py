"""The most that `wandb.watch` takes of the largest gradient is no less than its operations make, counted on their own order."""

from __future__ import annotations

import pytest

from preflight.errors import Problem
from preflight.formulas.limits.bounds import dearest_of
from preflight.formulas.watched import WATCHED_BYTES
from preflight.launch import LaunchPlan
from preflight.models import describe
from preflight.plan_parts import Adapter
from preflight.unpriced_names import WATCHED

NUM = 1 << 16


@pytest.mark.libraries
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("is_finite", [True, False])
def test_a_histogram_takes_no_more_than_is_taken_for_it(dtype, is_finite):
    import torch
    from allocations import Allocations

    gradient = torch.ones(NUM, dtype=getattr(torch, dtype))
    gradient[0] = 1.0 if is_finite else float("inf")
    with Allocations() as counted:  # as log_tensor_stats goes on a card, but for `histc` itself
        counted.mark("histogram")
        flat = gradient.data.detach().clone().reshape(-1).type(torch.FloatTensor)
        if not (~torch.isfinite(flat)).all().item() and not torch.isfinite(flat).all():
            flat = flat[torch.isfinite(flat)]
        flat.min().item()

    assert 4 * NUM < counted.peaks["histogram"] <= WATCHED_BYTES * NUM


@pytest.mark.parametrize(
    ("more", "elements"),
    [
        ({}, 50257 * 64),
        ({"adapter": Adapter("lora", 4, targets=("c_fc",))}, 256 * 4),
        ({"engine": "fsdp2", "shard_degree": 2, "world_size": 2}, None),
    ],
)
def test_the_largest_tensor_that_trains_is_watched_where_it_is_one(more, elements):
    config = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 50257}
    notice = Problem.left_out("it", "t.py:3", WATCHED, "more")
    plan = LaunchPlan(
        micro_batch_size=1, seq_len=8, mixed_precision="no", notices=(notice,), **more
    )
    dearest = dearest_of(plan, describe(config, "tiny", "a test"), {})

    of_watch = [] if dearest is None else [t.num_bytes for t in dearest.terms if WATCHED in t.name]
    assert of_watch == ([] if elements is None else [elements * WATCHED_BYTES])

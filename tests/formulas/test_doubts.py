"""A refusal stands in spite of a doubt where what is not doubted is too large already."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.formulas.limits.untraced import UNTRACED
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.request import Request

NF4 = BaseQuantization("nf4", True, "bf16", "bf16", "none")


@pytest.mark.parametrize(
    ("device", "packed", "answer"),
    [
        ("big:85", None, "does_not_fit"),  # 91 GiB of weights, whatever its layers keep
        ("big:110", None, "unknown"),
        ("big:85", NF4, "unknown"),  # which of its weights are packed is not known
    ],
)
def test_weights_that_are_too_large_need_no_trace_of_the_layers(device, packed, answer):
    plan = LaunchPlan(
        model="moonshotai/Kimi-Linear-48B-A3B-Instruct", engine="ddp", world_size=8, micro_batch_size=4, seq_len=4096, load_dtype="bf16",
        mixed_precision="bf16", adapter=Adapter(rank=8, targets=("q_proj",)), base_quantization=packed, device=device,
    )  # fmt: skip
    report = check_plan(plan, load_plugins(), Request())

    assert report.verdict is not None
    assert report.verdict.answer.value == answer
    assert (UNTRACED in report.verdict.unpriced) == (answer == "unknown")


@pytest.mark.parametrize(
    ("upcast", "release", "is_said"),
    [("all", "4.57.6", True), ("none", "4.57.6", False), ("all", "5.24.0", False)],
)
def test_experts_in_fp32_that_are_cast_one_by_one_are_no_reason_to_say_that_it_fits(
    upcast, release, is_said
):
    plan = LaunchPlan(
        model="openai/gpt-oss-20b", engine="single", micro_batch_size=1, seq_len=512, load_dtype="bf16", mixed_precision="bf16",
        adapter=Adapter(rank=8, targets=("q_proj", "v_proj"), dtype="fp32"), device="big:500", versions={"transformers": release},
        base_quantization=replace(NF4, upcast_unquantized_to_fp32=upcast, storage_dtype=None),
    )  # fmt: skip
    report = check_plan(plan, load_plugins(), Request())

    assert report.verdict is not None
    assert (report.verdict.answer.value == "unknown") == is_said

"""Layers that scan states, in releases of transformers whose torch code does it otherwise: published models as traces saw
them there, in sizes that no table was made from, and what a launch is told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from preflight.derive.costs.formula_table import formulas_of
from preflight.derive.layouts.small_models import plan_of
from preflight.formulas.layers.installed_kernels import KERNELS
from preflight.formulas.limits.left_out import with_left_out
from preflight.memory import Moment
from preflight.models import describe
from preflight.models.registry import find_model

FALCON, QWEN = "tiiuae/Falcon-H1-1.5B-Deep-Base", "Qwen/Qwen3.5-2B"
NEMOTRON, GRANITE = "nvidia/NVIDIA-Nemotron-Nano-9B-v2", "ibm-granite/granite-4.0-h-tiny"
MOMENTS = (
    Moment.FORWARD, Moment.LAST_LAYER_BACKWARD, Moment.FIRST_LAYER_BACKWARD, Moment.EMBEDDING_BACKWARD,
)  # fmt: skip
TRACED = [
    (FALCON, "5.14.1", "full", True, (20_066_759_648, 29_891_929_672, 32_283_306_712, 6_225_257_640)),
    (FALCON, "5.14.1", "full", False, (57_532_951_452, 67_284_880_546, 32_327_330_520, 6_225_257_640)),
    (NEMOTRON, "5.14.1", "full", True, (48_529_419_776, 56_247_305_736, 70_108_141_064, 35_571_292_168)),
    (QWEN, "5.16.1", "full", True, (4_823_619_520, 6_592_123_912, 8_931_605_832, 10_224_404_040)),
    (QWEN, "5.16.1", "full", False, (19_898_428_624, 20_957_478_104, 10_388_393_824, 10_224_404_040)),
    (QWEN, "5.16.1", "LoRA, autocast", True, (4_863_214_528, 5_546_338_760, 5_392_707_016, 4_523_612_104)),
    (QWEN, "5.16.1", "LoRA, autocast", False, (19_754_095_696, 19_678_549_080, 7_070_802_400, None)),
]  # fmt: skip
"""One row of 2048 on meta tensors, with PEFT 0.21.2 and torch 2.13: live bytes at each of MOMENTS."""


def _launch(name, release, method, checkpointing):
    entry = find_model(name)
    versions = {"transformers": release, "peft": "0.21.2", "torch": "2.13.0"}
    plan = plan_of(
        method, checkpointing, micro_batch_size=1, seq_len=2048, attention="sdpa", versions=versions
    )
    return plan, describe(entry.config, name, "the registry")


@pytest.mark.parametrize(("name", "release", "method", "checkpointing", "traced"), TRACED)
def test_a_published_model_takes_what_a_trace_saw_in_that_release(
    plugins, name, release, method, checkpointing, traced
):
    plan, model = _launch(name, release, method, checkpointing)
    formulas = formulas_of(plan, model, plugins)
    newest = formulas_of(replace(plan, versions={"transformers": "5.24.0"}), model, plugins)

    for moment, num_bytes in zip(MOMENTS, traced, strict=True):
        if num_bytes is not None:
            assert formulas[moment] == pytest.approx(num_bytes, rel=0.01), moment
    assert max(formulas[moment] / newest[moment] for moment in MOMENTS) > 1.02


def test_a_packed_jamba_takes_what_a_trace_saw(plugins):
    """Its class adds a product's bias in another way where its config says that it is packed."""
    plan, model = _launch("ai21labs/AI21-Jamba2-3B", "5.24.0", "QLoRA, autocast", True)
    formulas = formulas_of(replace(plan, seq_len=128), model, plugins)

    traced = (2_059_669_760, 2_224_120_584, 2_260_152_072, 1_929_537_800)
    for moment, num_bytes in zip(MOMENTS, traced, strict=True):
        assert formulas[moment] == pytest.approx(num_bytes, rel=0.01), moment


@pytest.mark.parametrize(
    ("name", "release", "method", "takes"),
    [
        (FALCON, "5.24.0", "full", "less"),
        (FALCON, "5.14.1", "full", "less"),
        (FALCON, "5.8.0", "full", "less"),
        (FALCON, "4.57.6", "full", "either"),
        (
            FALCON,
            "5.14.1",
            "full, bf16 under autocast",
            "either",
        ),  # which no table of the release has
        (GRANITE, "5.13.0", "full", "less"),
        (GRANITE, "5.12.0", "full", "either"),
        ("tiiuae/falcon-mamba-7b", "5.14.1", "full", "either"),
        (QWEN, "5.24.0", "full", "less"),
        (QWEN, "5.17.0", "full", "less"),
        (QWEN, "5.12.0", "full", "less"),
        (QWEN, "5.12.0", "full, fp32", "either"),
    ],
)
def test_kernels_take_less_than_torch_code_that_was_traced_in_the_release(
    name, release, method, takes
):
    plan, model = _launch(name, release, method, True)

    found = [n.takes for n in with_left_out(plan, model).notices if n.unpriced == KERNELS]
    assert found == [takes]

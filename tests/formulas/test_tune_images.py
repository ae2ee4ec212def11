"""Steps of torchtune's Llama 3.2 Vision with images, counted by tune_image_steps.py, beside the most that they are said to take."""

from __future__ import annotations

from dataclasses import replace

import pytest
from recorded import recorded
from some_plugins import plugins_of
from tune_image_steps import LORA, case_of, config_of

from preflight.formulas.tune_images import images_at_most
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan, Vision
from preflight.models import describe
from preflight.peaks import estimate_peaks

ROWS = recorded("tune_images.jsonl")
TARGETS = (*(name.replace("output_proj", "o_proj") for name in LORA), "gate_proj", "up_proj", "down_proj", "fc1", "fc2")  # fmt: skip


def plan_of(case: dict, release: str = "0.6.1") -> LaunchPlan:
    adapter = Adapter(
        rank=case["rank"], targets=TARGETS, dropout=case["dropout"], dtype=case["dtype"]
    )
    frozen = ("decoder",) if case["encoder"] else ("decoder", "tower")
    return LaunchPlan(
        trainer="torchtune", load_dtype=case["dtype"], mixed_precision="no", micro_batch_size=case["rows"],
        seq_len=case["length"], attention="sdpa", sequence_kind="padded", loss="full_logits",
        activation_checkpointing="full" if case["checkpointed"] else "none", adapter=adapter if case["rank"] else None,
        vision=Vision(
            frozen=frozen, images_per_sequence=case["images"], image_tokens=case["tiles"] * (case["grid"] ** 2 + 1),
        ),
        versions={"torchtune": release, "torch": "2.13.0"},
    )  # fmt: skip


def parts(plan: LaunchPlan, case: dict) -> tuple[int, int]:
    """Return the highest sums of a step without images, and with the most that they take."""
    plugins = plugins_of("memory_")
    model = describe(config_of(case), "t", "t")
    terms = estimate_memory(plan, model, None, plugins).terms
    of_images = images_at_most(plan, model)
    most = estimate_peaks((*terms, *of_images), ())
    return estimate_peaks(terms, ()).allocated_peak_bytes, most.allocated_peak_bytes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['name']}, {row['torchtune']}")
def test_no_step_with_images_takes_more_than_its_bound_or_less_than_text_alone(row):
    case = case_of(row["name"])
    least, most = parts(plan_of(case, row["torchtune"]), case)
    counted = max(row["peaks"].values())

    assert least <= counted <= most < 1.3 * counted


@pytest.mark.parametrize("edit", [{"engine": "fsdp2"}, {"torch_compile": True}, {"seq_len": None}, {"eval_micro_batch_size": 8}, {"vision": Vision()}, {"trainer": "trl"}])  # fmt: skip
def test_nothing_is_said_of_images_that_were_not_counted(edit):
    case = case_of("trained")
    model = describe(config_of(case), "t", "t")

    assert images_at_most(replace(plan_of(case), **edit), model) == []

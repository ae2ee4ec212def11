"""What the user's loop keeps alive: every plan field and version rule against a trace that shows its bytes."""

from __future__ import annotations

from pathlib import Path

import pytest

from preflight.derive.pages.loop_table import (
    FEATURES,
    cost_of,
    loss_code,
    ruled_loss,
    table_lines,
    traced_loss,
    weight_copies,
)
from preflight.formulas.optimizers import (
    optimizer_kernel,
    step_bytes_per_element,
    step_copies_of_flat,
)
from preflight.formulas.user_loop import (
    LOSS_RULES,
    OUTPUT_RULES,
    drops_gradients,
    keeps_outputs,
    loss_bytes,
)
from preflight.launch import LaunchPlan

PAGE = Path(__file__).parents[2] / "docs" / "user-loop.md"
PER_TOKEN_BYTES = 60
"""Vectors of a number per token, which no formula counts: statistics of TRL's head."""


@pytest.fixture(scope="module")
def costs(plugins):
    return {feature.name: cost_of(feature, plugins) for feature in FEATURES}


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_habit_costs_what_the_trace_shows(feature, costs):
    cost = costs[feature.name]

    assert abs(cost.formula_bytes - cost.traced_bytes) <= PER_TOKEN_BYTES * 512
    assert cost.formula_bytes == pytest.approx(cost.traced_bytes, rel=0.002, abs=256)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_autocast_keeps_a_copy_of_every_fp32_matrix_until_forward_is_done(plugins, checkpointing):
    cost = weight_copies(checkpointing, plugins)

    assert cost.formula_bytes == cost.traced_bytes > 0


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
@pytest.mark.parametrize(
    "rule", LOSS_RULES, ids=lambda r: f"{r.trainer} {r.since and r.since.since} {len(r.only)}"
)
def test_a_loss_takes_the_bytes_per_logit_of_its_version(rule, dtype, batch):
    """Copies of the shifted logits are made of several sequences only, and fp32 logits are not upcast."""
    traced = traced_loss(loss_code()[rule], dtype, batch)
    ruled = ruled_loss(rule, dtype, batch)

    if rule.upcasts or dtype == "fp32":
        assert traced[:3] == ruled[:3]
    else:  # measured runs hold one tensor of logits more than the operations
        assert traced.backward < ruled.backward == traced.backward + 2
        assert traced.forward <= ruled.forward


def test_the_page_has_the_rows_of_today(plugins, costs):
    """The page's tables are what `python -m preflight.derive user_loop` writes."""
    copies = [weight_copies(checkpointing, plugins) for checkpointing in (False, True)]
    page = PAGE.read_text(encoding="utf-8")

    assert "\n".join(table_lines([*costs.values(), *copies])) in page


@pytest.mark.parametrize(
    ("trainer", "versions", "keeps"),
    [
        ("transformers", {}, False),
        ("trl", {"trl": "0.24.0"}, False),
        ("plain_loop", {}, True),
        ("torchtitan", {}, True),
        ("torchtitan", {"torchtitan": "0.1.0"}, False),
        ("torchtune", {"torchtune": "0.1.1"}, True),
        ("torchtune", {"torchtune": "0.6.1"}, False),
        ("litgpt", {"litgpt": "0.5.13"}, True),
        (None, {}, False),
    ],
)
def test_who_keeps_the_outputs_is_a_rule_of_trainer_and_version(trainer, versions, keeps):
    plan = LaunchPlan(trainer=trainer, versions=versions)

    assert keeps_outputs(plan) is keeps
    assert keeps_outputs(plan.with_edits({"keeps_outputs": not keeps})) is not keeps


def test_trainer_and_trl_let_go_of_the_logits_and_say_so_in_their_source():
    """Each ends in `return (loss, outputs) if return_outputs else loss`."""
    import inspect

    from transformers import Trainer
    from trl import SFTTrainer

    for owner in (Trainer, SFTTrainer):
        assert "return (loss, outputs) if return_outputs else loss" in inspect.getsource(
            owner.compute_loss
        )
    assert {rule.trainer for rule in OUTPUT_RULES if rule.since is None} >= {"transformers", "trl"}


def test_torch_before_2_kept_gradients_and_looped_over_tensors():
    new = LaunchPlan(optimizer="adamw_torch")
    old = new.with_edits({"versions": {"torch": "1.13.1"}})

    assert (drops_gradients(new), drops_gradients(old)) == (True, False)
    assert (optimizer_kernel(new), optimizer_kernel(old)) == ("foreach", "for_loop")
    assert drops_gradients(old.with_edits({"zero_grad_set_to_none": True}))
    assert drops_gradients(old.with_edits({"engine": "zero3"}))  # DeepSpeed drops its own


def test_deepspeed_steps_with_the_optimizer_that_is_handed_over():
    """Trainer hands torch's AdamW over; a plain loop's is FusedAdam unless it says otherwise."""
    trainer = LaunchPlan(engine="zero3", optimizer="adamw_torch", trainer="transformers")
    loop = trainer.with_edits({"trainer": "plain_loop"})
    own = loop.with_edits({"optimizer_kernel": "foreach"})
    looping = loop.with_edits({"optimizer_kernel": "for_loop"})

    assert [step_copies_of_flat(p) for p in (trainer, loop, own, looping)] == [1, 0, 1, 2]
    assert step_bytes_per_element(looping) == 0


@pytest.mark.parametrize(
    ("model_type", "release", "expected"),
    [
        ("llama", "4.45.2", (12, 12, 4)),
        ("llama", "4.46.0", (14, 12, 2)),
        ("mistral", "4.47.1", (12, 12, 4)),
        ("mistral", "4.48.1", (14, 12, 2)),
        ("gpt_bigcode", "4.48.1", (8, 8, 2)),
        ("gpt_bigcode", "4.49.0", (10, 12, 2)),
        ("llama", "5.24.0", (10, 12, 2)),
    ],
)
def test_the_loss_is_a_rule_of_type_and_release(model_type, release, expected):
    plan = LaunchPlan(
        trainer="transformers", versions={"transformers": release}, micro_batch_size=2
    )

    assert loss_bytes(plan, 2, model_type=model_type)[:3] == expected

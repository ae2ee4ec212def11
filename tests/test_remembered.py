"""A remembered function answers as the function does, for every plan of which all that it asks is the same."""

from __future__ import annotations

import dataclasses
import json
import random
import subprocess
import sys
from itertools import product

import pytest

from preflight.errors import PreflightError
from preflight.judge import estimate_memory
from preflight.launch import Adapter, LaunchPlan, Vision
from preflight.plan_choices import OPEN_VALUES
from preflight.plugins import load_plugins
from preflight.remembered import MOST, Asked, first_of_equals, remembered
from preflight.values import replace
from preflight.versions.boundary import Boundary

SINCE = Boundary("trl", "1.0", "something", "somewhere")
asked: list[LaunchPlan] = []


@remembered
def tokens(plan: LaunchPlan, factor: int) -> int:
    """Return the tokens."""
    asked.append(plan)
    return _rows(plan) * factor * (2 if SINCE.holds_in(plan.versions) else 1)


@remembered
def _rows(plan: LaunchPlan) -> int:
    """Return rows times length, where somebody says one."""
    other = replace(plan, seq_len=plan.seq_len or 8)
    return (other.micro_batch_size or 1) * other.seq_len


@pytest.fixture(autouse=True)
def forgotten():
    asked.clear()


PLAN = LaunchPlan(micro_batch_size=4, seq_len=16, versions={"trl": "0.9", "torch": "2.8"})


def test_it_is_called_as_it_was_written():
    assert (tokens.__name__, tokens.__doc__) == ("tokens", "Return the tokens.")


@pytest.mark.parametrize(
    ("edits", "factor", "found", "is_asked"),
    [
        ({"optimizer": "sgd", "world_size": 8}, 1, 64, False),
        ({"versions": {"trl": "0.2", "torch": "2.9"}}, 1, 64, False),
        ({"versions": {"trl": "1.1", "torch": "2.8"}}, 1, 128, True),
        ({"seq_len": 32}, 1, 128, True),
        ({"seq_len": None}, 1, 32, True),
        ({"micro_batch_size": 8}, 1, 128, True),
        ({}, 3, 192, True),
    ],
)
def test_a_plan_is_asked_about_again_where_something_that_was_asked_is_another(
    edits, factor, found, is_asked
):
    assert tokens(PLAN, 1) == 64
    asked.clear()

    assert tokens(replace(PLAN, **edits), factor) == found
    assert bool(asked) is is_asked


def test_what_a_function_asks_through_another_that_answers_at_once_is_asked_all_the_same():
    lengths = [16, 32, 16]

    @remembered
    def doubled(plan: LaunchPlan) -> int:
        return 2 * _rows(plan)

    _rows(PLAN)
    plans = [replace(PLAN, seq_len=length, optimizer="sgd") for length in lengths]

    assert [doubled(plan) for plan in plans] == [128, 256, 128]


def test_all_versions_are_asked_where_a_function_looks_through_them():
    @remembered
    def named(plan: LaunchPlan) -> str:
        return ", ".join(f"{name} {plan.versions[name]}" for name in sorted(plan.versions))

    assert named(PLAN) == "torch 2.8, trl 0.9"
    assert named(replace(PLAN, versions={"trl": "0.9"})) == "trl 0.9"
    assert "torch" in Asked(PLAN, {}).versions and "peft" not in Asked(PLAN, {}).versions


@pytest.mark.parametrize("change", [replace, dataclasses.replace])
def test_what_is_asked_of_another_plan_is_asked_of_the_one_that_it_was_made_of(change):
    @remembered
    def is_new(plan: LaunchPlan) -> bool:
        return SINCE.holds_in(plan.versions)

    @remembered
    def rows(plan: LaunchPlan) -> int:
        other = change(plan, seq_len=3)
        return other.micro_batch_size * other.seq_len * (2 if is_new(other) else 1)

    newer = replace(PLAN, versions={"trl": "1.1"}, micro_batch_size=2)
    for _ in range(2):
        assert [rows(PLAN), rows(newer), rows(replace(newer, seq_len=5))] == [12, 12, 12]
        assert rows(replace(PLAN, versions={"trl": "1.1"})) == 24


def test_an_answer_is_kept_with_what_it_was_asked_about():
    """Identities are used again once a value is gone."""
    found = [_rows(LaunchPlan(micro_batch_size=1, seq_len=n)) for n in range(1, 3 * MOST)]

    assert found == list(range(1, 3 * MOST))


def test_an_error_is_no_answer_and_leaves_the_plan_as_it_was():
    @remembered
    def fails(plan: LaunchPlan) -> int:
        raise ValueError(plan.engine)

    plan = Asked(PLAN, {})
    for _ in range(2):
        with pytest.raises(ValueError, match="single"):
            fails(plan)
        assert plan.__dict__["engine"] == "single"


def test_equal_values_become_the_first_of_them():
    first, second = Adapter(rank=3), Adapter(rank=3)

    assert first_of_equals(first) is first_of_equals(second) is first


ADAPTERS = (
    None,
    Adapter(rank=8),
    Adapter(rank=8, targets="all-linear"),
    Adapter("dora", 8, modules_to_save=("lm_head",)),
)
VERSIONS = (
    {},
    {"transformers": "4.51.3", "torch": "2.4.0", "trl": "0.19.1", "peft": "0.11.0"},
    {"transformers": "4.57.6", "torch": "2.8.0", "accelerate": "1.13.0"},
)
EDITS: tuple[dict[str, object], ...] = (
    {},
    {"micro_batch_size": 3},
    {"optimizer": "adamw_8bit", "attention": "eager"},
    {"activation_checkpointing": "full", "trainer": "trl", "objective": "dpo"},
    *({"engine": engine, "shard_degree": 8} for engine in ("fsdp1", "fsdp2", "zero3")),
    {"base_quantization": OPEN_VALUES["base_quantization"][1], "load_dtype": "bf16"},
    {"vision": Vision(frozen=("tower",)), "loss": "fused_linear"},
)
MODELS = ("Qwen/Qwen2.5-0.5B", "openai-community/gpt2")
NUM_CASES = 48


def estimates(seed: int) -> dict[str, str]:
    """Return what plans take, asked about in an order of one's own."""
    plugins = load_plugins()
    cases = random.Random(0).sample([*product(MODELS, ADAPTERS, VERSIONS, EDITS)], NUM_CASES)
    random.Random(seed).shuffle(cases)
    found = {}
    for name, adapter, versions, edits in cases:
        plan = LaunchPlan(
            model=name, world_size=8, micro_batch_size=1, seq_len=512, mixed_precision="bf16"
        )
        try:
            plan = plan.with_edits({"adapter": adapter, "versions": versions, **edits})
        except PreflightError:
            continue
        model = plugins.first("preflight_describe_model", plan=plan)
        estimate = estimate_memory(plan, model, None, plugins)
        found[repr((name, adapter, versions, edits))] = repr(
            [(t.name, t.num_bytes, t.formula, t.level) for t in estimate.terms]
        )
    return found


IN_FULL = """
import json, sys
import preflight.remembered as memory
memory.remembered, memory.first_of_equals = (lambda function: function), (lambda value: value)
sys.path.insert(0, sys.argv[1])
from test_remembered import estimates
json.dump(estimates(1), sys.stdout)
"""


def test_estimates_are_those_of_functions_that_remember_nothing():
    told = subprocess.run(
        [sys.executable, "-c", IN_FULL, __file__.rpartition("/")[0]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    in_full = json.loads(told.stdout)

    assert len(in_full) > NUM_CASES / 2
    assert estimates(2) == in_full

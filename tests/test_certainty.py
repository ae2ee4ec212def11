"""An error is one in every reading of the launch; what rests on what nobody said is a warning that names it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from some_plugins import plugins_of
from tiny_llama import TINY_LLAMA

from preflight.certainty import as_sure_as_the_plan, other_readings
from preflight.errors import Problem
from preflight.launch import Adapter, BaseQuantization, LaunchPlan, Origin
from preflight.model import Likeness
from preflight.models import describe
from preflight.verdict import Answer, Verdict, with_unpriced

FSDP1 = LaunchPlan(
    engine="fsdp1",
    world_size=8,
    shard_degree=8,
    mixed_precision="bf16",
    load_dtype="bf16",
    trainer="trl",
    adapter=Adapter("lora", 16, targets="all-linear"),
    wrap_policy="transformer",
    reshard_after_forward=True,
    versions={"peft": "0.21.2", "transformers": "5.24.0", "trl": "1.16.0"},
)

LLAMA = describe(TINY_LLAMA, "tiny", "test")


@pytest.fixture(scope="module")
def plugins():
    return plugins_of("check_")


def severities(plugins, plan):
    """Return id -> severity and message of what is found in a plan."""
    asked = {"plan": plan, "model": LLAMA, "device": None, "estimate": None}
    found = plugins.collect("preflight_findings", **asked)
    kept = as_sure_as_the_plan(found, plugins, asked)
    return {f.id: (f.severity, f.message) for f in kept if f.id[2] in "234"}


def assumed(plan, name, *may_be, where="default of a library"):
    return plan.with_origin(name, Origin(where, True, "", may_be))


def test_an_error_of_a_plan_that_somebody_said_stays_one(plugins):
    assert severities(plugins, FSDP1)["PF223"][0] == "error"


@pytest.mark.parametrize(
    ("named", "severity"),
    [(True, "error"), (False, "warning")],
)
def test_a_release_that_nobody_named_makes_no_error(plugins, named, severity):
    origin = Origin("peft 0.21.2", not named)
    found = severities(plugins, FSDP1.with_origin("versions.peft", origin))["PF223"]

    assert found[0] == severity
    assert ("peft is 0.21.2, which nobody named" in found[1]) is not named


def test_an_open_engine_makes_no_error_of_fsdp(plugins):
    plan = assumed(FSDP1, "engine", "ddp", "fsdp2")
    severity, message = severities(plugins, plan)["PF223"]

    assert severity == "warning"
    assert message.endswith("(if engine is fsdp1, which nobody said)")


def test_an_open_dtype_makes_no_error_of_what_is_stored_beside_it(plugins):
    """`test_the_library_refuses_what_the_check_names` has the refusal: two dtypes in one flat parameter."""
    base = BaseQuantization("nf4", storage_dtype="bf16")
    plan = replace(FSDP1, base_quantization=base, load_dtype="fp32")
    assert severities(plugins, plan)["PF418"][0] == "error"
    plan = assumed(plan, "load_dtype", None, "bf16", "fp32")

    assert severities(plugins, plan)["PF418"][0] == "warning"


def test_what_only_looks_like_an_argument_makes_no_error(plugins):
    """A script's own `--lora_rank` may be of something else than PEFT's adapter."""
    facts = replace(FSDP1.script_facts, inferred=("adapter",))
    plan = replace(FSDP1, script_facts=facts).with_origin("adapter", Origin("--lora_rank"))
    severity, message = severities(plugins, plan)["PF223"]

    assert severity == "warning"
    assert message.endswith("(if --lora_rank means adapter here)")


def test_a_trainer_that_was_not_seen_makes_no_error(plugins):
    plan = replace(FSDP1, engine="ddp", mixed_precision="no", load_dtype="fp32", adapter=None)
    plan = replace(plan, optimizer="galore_adamw", trainer="transformers", shard_degree=1)
    assert severities(plugins, plan)["PF434"][0] == "error"
    plan = plan.with_origin("trainer", Origin("a guess from its flags", True))

    assert severities(plugins, plan)["PF434"][0] == "warning"


def test_a_plan_without_a_doubt_has_no_other_reading():
    assert list(other_readings(FSDP1)) == []


def test_the_modules_of_a_model_that_only_has_the_same_sizes_make_no_error(plugins):
    """Its weights may have other names: a base of its own code, published under the sizes of another one."""
    plan = replace(FSDP1, engine="ddp", shard_degree=1, adapter=Adapter(targets=("c_attn", "w1")))
    asked = {"plan": plan, "model": LLAMA, "device": None, "estimate": None}
    found = plugins.collect("preflight_findings", **asked)
    assert [f.severity for _, f in found if f.id == "PF421"] == ["error"]
    asked["model"] = replace(LLAMA, like=Likeness("other/tiny", "by its name alone", True))
    (kept,) = [f for f in as_sure_as_the_plan(found, plugins, asked) if f.id == "PF421"]

    assert kept.severity == "warning"
    assert kept.message.endswith("(if its modules are those of other/tiny)")


@pytest.mark.parametrize("num_parts", [1, 4, 5, 6, 13])
def test_an_answer_names_few_of_many_parts_that_are_not_priced_and_keeps_them_all(num_parts):
    parts = [f"part {number}" for number in range(num_parts)]
    notices = [Problem.left_out(f"no formula for {part}", "", part, "more") for part in parts]
    verdict = with_unpriced(Verdict(Answer.FITS, "it leaves room"), notices)

    assert verdict.unpriced == tuple(parts)
    assert len(verdict.reason.split("; ")) == min(num_parts, 5)
    assert ("more" in verdict.reason) is (num_parts > 5)

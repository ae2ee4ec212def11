"""A reference model on real gloo ranks, prepared by TRL's own functions, against the terms of the estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_llama import LLAMA as CONFIG
from small_llama import ZERO
from some_plugins import plugins_of

from preflight.formulas.layers.chunked_heads import head_bytes
from preflight.formulas.objectives.forward_alone import freed_buffers
from preflight.judge import estimate_memory
from preflight.launch import Adapter, DeepSpeedSettings, LaunchPlan
from preflight.memory import Level, Moment
from preflight.models import describe
from preflight.plugins import load_plugins

SCRIPT = Path(__file__).with_name("reference_ranks.py")
CASES = {
    "fsdp2": {"engine": "fsdp2", "reshard": True, "load": "fp32"},
    "fsdp2, 16 bits": {"engine": "fsdp2", "reshard": True, "load": "bf16"},
    "fsdp2, kept": {"engine": "fsdp2", "reshard": False, "load": "bf16"},
    "fsdp1": {"engine": "fsdp1", "reshard": "FULL_SHARD", "load": "bf16"},
    "zero2": {"engine": "zero2", "load": "fp32"},
    "zero3": {"engine": "zero3", "load": "fp32"},
}
MICRO, LENGTH, WORLD = 2, 8, 2
SMALL = 0.03
"""Activations of a few tokens beside whole models, and the counters of the libraries."""


@pytest.fixture(scope="module")
def measured(tmp_path_factory, ranks) -> dict[str, dict]:
    common = {"config": CONFIG, "micro": MICRO, "length": LENGTH, "zero": ZERO, "offload": {}}
    given = json.dumps([{**common, "name": name, **case} for name, case in CASES.items()])
    folder = tmp_path_factory.mktemp("checkpoint")
    printed = ranks.printed(SCRIPT, given, str(folder), world=WORLD)
    return {name: values[0] for name, values in json.loads(printed.splitlines()[-1]).items()}


def plan_of(name: str, **more) -> LaunchPlan:
    case = CASES[name]
    return LaunchPlan(
        objective="dpo", trainer="trl", engine=case["engine"], world_size=WORLD, shard_degree=WORLD,
        reshard_after_forward=case.get("reshard") is not False, load_dtype=case["load"],
        mixed_precision="bf16", micro_batch_size=MICRO // 2, seq_len=LENGTH, attention="sdpa",
        sequence_kind="fixed", loss="chunked_linear",
        deepspeed=DeepSpeedSettings(**ZERO) if case["engine"].startswith("zero") else None,
    ).with_edits(more)  # fmt: skip


def terms_of(plan: LaunchPlan) -> dict[str, int]:
    plugins = load_plugins(builtins=["memory_reference"])
    terms = estimate_memory(
        plan, describe({**CONFIG, "dtype": "bfloat16"}, "t", "t"), None, plugins
    )
    return {t.name: t.num_bytes for t in terms.terms if t.level is Level.ALLOCATED}


@pytest.mark.parametrize("name", CASES)
def test_a_rank_holds_its_share_of_the_reference(measured, name):
    held = terms_of(plan_of(name))["parameters of the reference model"]

    assert held == pytest.approx(measured[name]["held"], rel=0.002)


@pytest.mark.parametrize("name", [n for n in CASES if n != "fsdp2, kept"])
def test_a_forward_gathers_what_the_engine_gathers(measured, name):
    model = describe(CONFIG, "t", "t")
    forward = terms_of(plan_of(name)).get("forward of the reference, beyond the policy's head", 0)
    forward += freed_buffers(plan_of(name), model)  # which no policy had here, nor a head
    if name == "zero3":
        forward += head_bytes(plan_of(name), model, MICRO * LENGTH).forward
    whole = 2 * model.num_params

    assert abs(forward - measured[name]["forward"]) <= SMALL * whole + 110_000


def test_what_is_not_resharded_stays_from_the_first_forward_on(measured):
    kept = terms_of(plan_of("fsdp2, kept"))["reference model, gathered and kept"]

    assert kept == pytest.approx(measured["fsdp2, kept"]["kept"], rel=SMALL)


def test_an_adapter_needs_no_second_copy_and_a_computed_reference_no_forward():
    whole, adapted = terms_of(plan_of("fsdp2")), terms_of(plan_of("fsdp2", adapter=Adapter()))
    computed = terms_of(plan_of("fsdp2", reference_model="none"))

    assert "parameters of the reference model" in whole
    assert set(adapted) == {"forward of the reference, beyond the policy's head"}
    assert not computed


def test_offloaded_parameters_take_their_reference_to_the_host():
    plan = plan_of("zero3", offload_params="cpu", offload_optimizer="cpu")
    plugins = load_plugins(builtins=["memory_reference"])
    terms = estimate_memory(plan, describe(CONFIG, "t", "t"), None, plugins).terms
    on_host = [t.num_bytes for t in terms if t.level is Level.HOST]

    assert on_host == [2 * describe(CONFIG, "t", "t").num_params]


def test_the_forward_is_after_the_policys():
    plugins = plugins_of("memory_")
    plan = plan_of("fsdp2")
    terms = estimate_memory(plan, describe(CONFIG, "t", "t"), None, plugins).terms
    forward = next(t for t in terms if t.name.startswith("forward of the reference"))

    assert forward.moments == {Moment.LOSS_FORWARD}

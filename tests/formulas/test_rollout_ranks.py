"""A rollout of TRL's GRPO on real gloo ranks, the policy sharded, against the terms of the estimate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_llama import LLAMA as CONFIG
from small_llama import ZERO

from preflight.judge import estimate_memory
from preflight.launch import DeepSpeedSettings, Generation, LaunchPlan
from preflight.models import describe
from preflight.plugins import load_plugins

SCRIPT = Path(__file__).with_name("rollout_ranks.py")
# FSDP first: what transformers keeps of DeepSpeed's config outlives its case.
CASES = {
    "fsdp2": {"engine": "fsdp2"},
    "zero3": {"engine": "zero3"},
    "zero3, a part at a time": {"engine": "zero3", "gathers": False},
}
MICRO, PROMPT, COMPLETION, WORLD = 2, 12, 6, 2


@pytest.fixture(scope="module")
def measured(tmp_path_factory, ranks) -> dict[str, dict]:
    common = {"config": CONFIG, "micro": MICRO, "prompt": PROMPT, "completion": COMPLETION}
    common |= {"zero": ZERO, "load": "float32"}
    given = json.dumps([{**common, "name": name, **case} for name, case in CASES.items()])
    folder = tmp_path_factory.mktemp("checkpoint")
    printed = ranks.printed(SCRIPT, given, str(folder), world=WORLD)
    return {name: values[0] for name, values in json.loads(printed.splitlines()[-1]).items()}


def rollout_of(name: str) -> int:
    case = CASES[name]
    plan = LaunchPlan(
        objective="grpo", trainer="trl", engine=case["engine"], world_size=WORLD, shard_degree=WORLD,
        reshard_after_forward=True, load_dtype="fp32", mixed_precision="bf16", micro_batch_size=MICRO,
        seq_len=PROMPT + COMPLETION, attention="sdpa", sequence_kind="fixed", loss="chunked_linear",
        reference_model="none", deepspeed=DeepSpeedSettings(**ZERO) if "zero" in case["engine"] else None,
        generation=Generation(
            max_completion_len=COMPLETION, gathers_parameters=case.get("gathers", True)
        ),
    )  # fmt: skip
    plugins = load_plugins(builtins=["memory_rollout"])
    terms = estimate_memory(plan, describe({**CONFIG, "dtype": "float32"}, "t", "t"), None, plugins)
    return sum(term.num_bytes for term in terms.terms)


@pytest.mark.parametrize("name", CASES)
def test_a_rollout_gathers_what_the_engine_gathers(measured, name):
    whole = 2 * describe(CONFIG, "t", "t").num_params

    assert rollout_of(name) == pytest.approx(measured[name]["rollout"], abs=0.02 * whole)


@pytest.mark.parametrize("name", CASES)
def test_what_was_gathered_is_gone_when_completions_are_scored(measured, name):
    assert measured[name]["after"] == 0

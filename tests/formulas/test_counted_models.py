"""A model whose parameters are counted and not laid out has a bound: never more than the same model with its layers."""

from __future__ import annotations

import itertools

import pytest

from preflight.judge import judge_plan
from preflight.launch import Adapter, BaseQuantization, LaunchPlan
from preflight.models import describe
from preflight.models.registry import find_model
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.verdict import Answer

PLUGINS = load_plugins()
MODELS = ("Qwen/Qwen2.5-0.5B", "meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B")
LORA = Adapter(targets="all-linear")
ENGINES = {
    "single": {},
    "ddp": {"world_size": 4},
    **{
        name: {"world_size": 4, "shard_degree": 4}
        for name in ("fsdp1", "fsdp2", "zero1", "zero2", "zero3")
    },
}
METHODS = {
    "full": {},
    "LoRA": {"adapter": LORA},
    "QLoRA": {"adapter": LORA, "base_quantization": BaseQuantization()},
    "8-bit": {"adapter": LORA, "base_quantization": BaseQuantization("int8")},
}
MORE = {
    "bf16": {"mixed_precision": "bf16"},
    "pure bf16": {"load_dtype": "bf16"},
    "offloaded": {"mixed_precision": "bf16", "offload_params": "cpu", "offload_optimizer": "cpu"},
    "checkpointed": {"mixed_precision": "bf16", "activation_checkpointing": "full"},
    "evaluated": {"mixed_precision": "bf16", "eval_micro_batch_size": 2},
}


def cases():
    for model, engine, method, more in itertools.product(MODELS, ENGINES, METHODS, MORE):
        if more == "offloaded" and (
            engine in ("single", "ddp") or "base_quantization" in METHODS[method]
        ):
            continue
        yield model, engine, method, more


@pytest.mark.parametrize(("name", "engine", "method", "more"), list(cases()))
def test_a_count_alone_is_a_bound_of_what_the_layers_take(name, engine, method, more):
    entry = find_model(name)
    plan = LaunchPlan(
        model=name, engine=engine, micro_batch_size=1, seq_len=256, device="h100-sxm-80",
        trainer="transformers", **ENGINES[engine], **METHODS[method], **MORE[more],
    )  # fmt: skip
    config = {"torch_dtype": "bfloat16", "model_type": "nobody-knows", "vocab_size": 100}
    counted = judge_plan(
        plan, PLUGINS, Policy(), model=describe(config, name, "", entry.num_params)
    )
    laid_out = judge_plan(plan, PLUGINS, Policy())
    at_least, whole = counted.estimate, laid_out.estimate

    assert counted.verdict.answer in (Answer.UNKNOWN, Answer.DOES_NOT_FIT)
    for phase, peak in ((p.phase, p.allocated_bytes) for p in at_least.peaks):
        there = [p.allocated_bytes for p in whole.peaks if p.phase is phase]
        assert peak <= max(there, default=0), phase
    assert at_least.host_counted_bytes <= whole.host_counted_bytes

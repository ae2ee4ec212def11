"""Keys and values that an evaluation holds beside its logits, against what transformers allocates on a CPU."""

from __future__ import annotations

import gc

import pytest
import torch
import transformers
from allocations import Allocations

from preflight.formulas.layers.key_values import cached_in_evaluation
from preflight.launch import LaunchPlan
from preflight.launch_facts import ScriptFacts
from preflight.models.families.description import describe_config
from preflight.pipeline import check_plan
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.values import replace

ROWS, LENGTH = 4, 96
SIZES = {
    "hidden_size": 128,
    "num_hidden_layers": 6,
    "vocab_size": 512,
    "max_position_embeddings": 128,
}
CONFIGS = {
    "whole heads": ("Llama", {"intermediate_size": 256, "num_attention_heads": 8}),
    "shared keys": ("Qwen2", {"intermediate_size": 256, "num_attention_heads": 8, "num_key_value_heads": 2}),
    "OPT": ("OPT", {"ffn_dim": 256, "num_attention_heads": 8, "word_embed_proj_dim": 128}),
}  # fmt: skip


def plan_of_trainer(trainer: str = "plain_loop", **given) -> LaunchPlan:
    plan = LaunchPlan(
        model="Qwen/Qwen2.5-7B", engine="single", world_size=1, micro_batch_size=1, seq_len=LENGTH, load_dtype="fp32",
        mixed_precision="no", trainer=trainer, eval_micro_batch_size=ROWS, device="big:400",
    )  # fmt: skip
    return replace(plan, **{"script_facts": ScriptFacts(caches_keys=True), **given})


def peak_of(model, use_cache: bool) -> int:
    model.config.use_cache = use_cache
    ids = torch.randint(0, 512, (ROWS, LENGTH))
    gc.collect()
    allocations = Allocations()
    with allocations, torch.no_grad():
        allocations.mark("evaluation")
        model(input_ids=ids, labels=ids)
    return allocations.peaks["evaluation"]


@pytest.mark.parametrize("name", CONFIGS)
def test_an_evaluation_holds_the_keys_and_values_of_every_layer(name):
    """They were not counted: 8 GiB of eight rows of 2,048 tokens of a 7B with whole heads."""
    family, more = CONFIGS[name]
    config = getattr(transformers, f"{family}Config")(**SIZES, **more)
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval()

    counted = cached_in_evaluation(
        plan_of_trainer(), describe_config(config.to_dict(), name, "a test", None), ROWS
    )

    assert counted == pytest.approx(peak_of(model, True) - peak_of(model, False), rel=0.01)


def has_term(plan: LaunchPlan) -> bool:
    report = check_plan(plan, load_plugins(), Request())
    assert report.estimate is not None
    return any(each.name.startswith("keys and values of an eval") for each in report.estimate.terms)


@pytest.mark.parametrize(
    ("given", "is_there"),
    [
        ({}, True),
        ({"versions": {"transformers": "5.24.0"}}, True),
        ({"trainer": "transformers", "versions": {"transformers": "4.57.6"}}, True),
        ({"trainer": "transformers", "versions": {"transformers": "5.0.0"}}, False),
        ({"trainer": "trl", "versions": {"transformers": "4.55.0", "trl": "0.21.0"}}, True),
        ({"trainer": "trl", "versions": {"transformers": "4.55.0", "trl": "0.22.0"}}, False),
        ({"trainer": "trl", "versions": {"transformers": "4.51.0", "trl": "0.16.1"}, "activation_checkpointing": "full"}, False),
        ({"trainer": "trl", "versions": {"transformers": "4.51.0", "trl": "0.16.1"}}, True),
        ({"script_facts": ScriptFacts(caches_keys=None), "activation_checkpointing": "full"}, False),
        ({"script_facts": ScriptFacts(caches_keys=None)}, True),
        ({"script_facts": ScriptFacts()}, False),
        ({"eval_micro_batch_size": None}, False),
    ],
)  # fmt: skip
def test_who_turns_the_cache_off(given, is_there):
    assert has_term(plan_of_trainer(**given)) is is_there


def test_the_trainer_of_transformers_5_turns_it_off(tmp_path):
    config = transformers.LlamaConfig(**SIZES, intermediate_size=256, num_attention_heads=8)
    model = transformers.LlamaForCausalLM(config)
    assert model.config.use_cache

    transformers.Trainer(
        model, transformers.TrainingArguments(tmp_path, report_to="none", use_cpu=True)
    )

    assert not model.config.use_cache

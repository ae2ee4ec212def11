"""Every remedy that is offered for a framework's launch is written into its config, and reading that gives its plan."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from framework_launches import CONFIGS, cases_of, command_of
from tiny_llama import TINY_LLAMA

from preflight.launch import Origin
from preflight.plan_parts import SET_ORIGIN
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch, write_checked, write_draft

LLAMA = {**TINY_LLAMA, "max_position_embeddings": 8192}
LAUNCHES = {  # DeepSpeed's CPU Adam is nobody's choice: no remedy touches the optimizer there
    ("axolotl", "full"): {
        "adafactor",
        "activation_checkpointing",
        "chunked_loss",
        "evaluation_batch",
        "lora",
        "micro_batch",
        "optimizer_8bit",
        "qlora",
        "seq_len",
        "sharding",
    },
    ("axolotl", "full_module_python"): {
        "adafactor",
        "activation_checkpointing",
        "chunked_loss",
        "evaluation_batch",
        "expandable_segments",
        "lora",
        "micro_batch",
        "optimizer_8bit",
        "qlora",
        "seq_len",
    },
    ("axolotl", "fsdp2"): {
        "activation_checkpointing",
        "lora",
        "micro_batch",
        "qlora",
        "reshard_after_forward",
        "seq_len",
        "sync_each_batch",
    },
    ("axolotl", "lora_modules"): {
        "activation_checkpointing",
        "attention_kernel",
        "chunked_loss",
        "micro_batch",
        "qlora",
        "seq_len",
        "sharding",
    },
    ("axolotl", "zero2"): {
        "activation_checkpointing",
        "chunked_loss",
        "deepspeed_buckets",
        "lora",
        "micro_batch",
        "qlora",
        "seq_len",
        "sharding",
    },
    ("llamafactory", "full_ddp_pure"): {"activation_checkpointing", "lora", "qlora", "seq_len"},
    ("llamafactory", "full_fsdp2"): {
        "expandable_segments",
        "lora",
        "offload_optimizer",
        "qlora",
        "reshard_after_forward",
        "seq_len",
        "sync_each_batch",
    },
    ("llamafactory", "full_zero2"): {
        "deepspeed_buckets",
        "lora",
        "micro_batch",
        "qlora",
        "seq_len",
    },
    ("llamafactory", "lora"): {"expandable_segments", "micro_batch", "qlora", "seq_len"},
    ("llamafactory", "lora_flags"): {"expandable_segments", "micro_batch", "qlora", "seq_len"},
    ("llamafactory", "lora_overridden"): {
        "activation_checkpointing",
        "expandable_segments",
        "micro_batch",
        "qlora",
        "seq_len",
    },
}


@pytest.mark.parametrize(("framework", "name"), LAUNCHES)
def test_every_remedy_that_is_offered_is_written(framework: str, name: str, tmp_path: Path) -> None:
    folder = tmp_path / framework
    shutil.copytree(CONFIGS / framework, folder)
    plugins = load_plugins()
    plan = read_launch(command_of(cases_of(framework)[name], folder), plugins)
    assert plan is not None
    origins = {**plan.origins, "model_config": Origin(SET_ORIGIN)}
    plan = replace(plan, model_config=LLAMA, origins=origins)
    model = plugins.first("preflight_describe_model", plan=plan)
    remedies: list[Any] = [
        remedy for _, remedy in plugins.collect("preflight_remedies", plan=plan, model=model)
    ]
    written = {
        remedy.id
        for remedy in remedies
        if write_checked(plan, plan.with_edits(remedy.edits), plugins) is not None
    }

    assert written == {remedy.id for remedy in remedies}
    assert written == LAUNCHES[framework, name]


@pytest.mark.parametrize("framework", ["axolotl", "llamafactory"])
def test_lora_is_told_in_the_words_of_the_framework(framework: str, tmp_path: Path) -> None:
    """And only what will be written is said to be: axolotl loads in the dtype that it trains in, so no base in bf16 alone."""
    folder = tmp_path / framework
    shutil.copytree(CONFIGS / framework, folder)
    command = command_of(
        cases_of(framework)["full" if framework == "axolotl" else "full_zero2"], folder
    )
    for path in folder.rglob("*.y*ml"):
        path.write_text(path.read_text().replace("bf16: true", "bf16: false"))
    plugins = load_plugins()
    plan = read_launch(command, plugins)
    assert plan is not None and plan.mixed_precision != "bf16"
    origins = {**plan.origins, "model_config": Origin(SET_ORIGIN)}
    plan = replace(plan, model_config=LLAMA, origins=origins)
    model = plugins.first("preflight_describe_model", plan=plan)
    offered = plugins.collect("preflight_remedies", plan=plan, model=model)
    (lora,) = (remedy for _, remedy in offered if remedy.id == "lora")
    after = plan.with_edits(lora.edits)

    assert "lora_r: 16" in lora.how or "lora_rank: 16" in lora.how
    is_written = write_checked(plan, after, plugins) is not None
    assert is_written is (framework == "llamafactory")
    assert (write_draft(plan, after, plugins) is not None) is is_written

"""OpenRLHF's launches are what its own parsers and DeepSpeed configs make of them, in the release that their arguments say.

OpenRLHF is not installed for the tests: its answers are kept in tests/configs/openrlhf/asked.json, written by
ask_openrlhf.py from the wheels of 0.4.6 to 0.11.2.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml
from framework_launches import CONFIGS

from preflight.hooks.read_openrlhf import preflight_read_launch
from preflight.judge import judge_plan
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.openrlhf.table import short
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.verdict import Answer

FOLDER = CONFIGS / "openrlhf"
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
LAUNCHES: dict[str, dict[str, str]] = yaml.safe_load((FOLDER / "manifest.yaml").read_text())


def read(argv: str, **env: str) -> LaunchPlan:
    plan = preflight_read_launch(command=LaunchCommand(tuple(argv.split()), env, "."))
    assert plan is not None
    return plan


def unpriced(plan: LaunchPlan) -> set[str]:
    return {notice.unpriced for notice in plan.notices if notice.unpriced}


@pytest.mark.parametrize("name", LAUNCHES)
def test_a_launch_is_what_its_parser_settles_on(name: str) -> None:
    plan = read(LAUNCHES[name]["argv"])
    theirs = {short(key): value for key, value in ASKED[name]["arguments"].items()}

    assert plan.model == theirs["pretrain"]
    assert plan.seq_len == theirs["max_len"]
    assert plan.micro_batch_size == theirs["micro_train_batch_size"]
    together = theirs.get("ring_attn_size", 1) * theirs.get("ds_tensor_parallel_size", 1)
    rows = theirs["micro_train_batch_size"] * plan.world_size
    assert plan.gradient_accumulation_steps == max(1, theirs["train_batch_size"] * together // rows)
    assert (plan.activation_checkpointing == "full") == theirs["gradient_checkpointing"]
    if theirs["gradient_checkpointing"]:
        assert plan.checkpointing_reentrant == theirs["gradient_checkpointing_use_reentrant"]
    flash = theirs.get("attn_implementation", "flash_attention_2" if theirs.get("flash_attn") else "eager")  # fmt: skip
    assert flash in (plan.attention, *plan.origins["attention"].may_be)
    rank = 0 if plan.adapter is None else plan.adapter.rank
    assert rank == theirs["lora_rank"]
    if plan.adapter is not None:
        targets = plan.adapter.targets
        said = targets if isinstance(targets, str) else list(targets)
        assert (said, plan.adapter.alpha) == (theirs["target_modules"], theirs["lora_alpha"])
    assert (plan.base_quantization is not None) == theirs["load_in_4bit"]


@pytest.mark.parametrize("name", LAUNCHES)
def test_deepspeed_gets_the_config_that_the_release_makes(name: str) -> None:
    plan, theirs = read(LAUNCHES[name]["argv"]), ASKED[name]["deepspeed"]
    zero = theirs["zero_optimization"]

    assert plan.zero_stage == zero["stage"]
    assert plan.offload_optimizer == zero["offload_optimizer"]["device"]
    assert plan.offload_params == zero["offload_param"]["device"]
    assert plan.max_grad_norm == theirs["gradient_clipping"]
    dtypes = {"bf16": theirs["bf16"]["enabled"], "fp16": theirs.get("fp16", {}).get("enabled")}
    assert dtypes.get(plan.mixed_precision) or "the dtype of the training" in unpriced(plan)


def test_what_is_not_priced_is_named() -> None:
    said = {name: unpriced(read(case["argv"])) for name, case in LAUNCHES.items()}

    assert said["sft_lora"] == {"cheaper ways through a step"}  # of 0.3.8 to 0.7.5
    assert "the dtype of the training" in said["sft_eager_fp32"]
    assert said["sft_offloaded"] == set()
    assert said["sft_ring"] == {"ring attention"}
    assert said["dpo"] == said["rm"] == set()


def test_a_reference_that_takes_less_than_is_counted_is_named() -> None:
    argv = LAUNCHES["dpo"]["argv"]

    assert unpriced(read(argv + " --ref_offload")) == {"a reference that is offloaded"}
    assert read(argv + " --ref_pretrain Qwen/Qwen2.5-7B").reference_model == "same"
    assert read(argv + " --ref_pretrain a/b").reference_model == "a/b"


@pytest.mark.parametrize("trainer", ["sft", "dpo", "rm"])
def test_a_launch_gets_a_verdict(trainer: str) -> None:
    argv = LAUNCHES["dpo"]["argv"].replace("train_dpo", f"train_{trainer}")
    plan = replace(read(argv), device="h100-sxm-80")
    judged = judge_plan(plan, load_plugins(), Policy())

    assert judged.verdict.answer is Answer.FITS
    names = {term.name for term in judged.estimate.terms} if judged.estimate else set()
    assert ("parameters of the reference model" in names) is (trainer == "dpo")
    assert "whole model before partitioning" not in names


def test_an_argument_of_no_release_leaves_the_answer_open() -> None:
    plan = read(LAUNCHES["sft_defaults"]["argv"] + " --use_my_loss")

    assert "an argument named use_my_loss" in unpriced(plan)


def test_its_trainer_on_ray_is_named() -> None:
    plan = read(
        "python3 -m openrlhf.cli.train_ppo_ray --pretrain Qwen/Qwen2.5-7B --vllm_num_engines 4"
    )

    assert unpriced(plan) == {"a launch that was not read"}


def test_a_checkouts_own_script_is_read_as_the_module() -> None:
    argv = LAUNCHES["sft_defaults"]["argv"]
    script = argv.replace("--module openrlhf.cli.train_sft", "../openrlhf/cli/train_sft.py")

    assert read(script).to_dict() == read(argv).to_dict()

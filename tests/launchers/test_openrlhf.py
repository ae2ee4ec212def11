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

from preflight.errors import BadInput
from preflight.formulas.engines.groups import FEWER
from preflight.judge import judge_plan
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.openrlhf import LAUNCHER
from preflight.launchers.openrlhf.ray import SECOND
from preflight.launchers.openrlhf.table import short
from preflight.memory import Moment
from preflight.plugins import load_plugins
from preflight.policy import Policy
from preflight.unpriced_names import CRITIC
from preflight.verdict import Answer

FOLDER = CONFIGS / "openrlhf"
WAYS = "cheaper ways through a step"
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
LAUNCHES: dict[str, dict[str, str]] = yaml.safe_load((FOLDER / "manifest.yaml").read_text())
ON_RAY = [name for name in LAUNCHES if name.startswith("ray_")]
ALONE = [name for name in LAUNCHES if name not in ON_RAY]


def read(argv: str, **env: str) -> LaunchPlan:
    plan = LAUNCHER.read(LaunchCommand(tuple(argv.split()), env, "."))
    assert plan is not None
    return plan


def unpriced(plan: LaunchPlan) -> set[str]:
    return {notice.unpriced for notice in plan.notices if notice.unpriced}


@pytest.mark.parametrize("name", ALONE)
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

    assert said["sft_lora"] == {WAYS}  # of 0.3.8 to 0.7.5
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


@pytest.mark.parametrize("name", ON_RAY)
def test_its_groups_on_ray_are_what_its_parser_settles_on(name: str) -> None:
    plan = read(LAUNCHES[name]["argv"])
    theirs = {short(key): value for key, value in ASKED[name]["arguments"].items()}
    generation, shares = plan.generation, theirs["colocate_all_models"]

    assert plan.model == theirs["pretrain"]
    assert plan.world_size == theirs["actor_num_nodes"] * theirs["actor_num_gpus_per_node"]
    longest = theirs.get("prompt_max_len", 0) + theirs.get("generate_max_len", 0)
    assert plan.seq_len == (longest or theirs["max_len"])
    assert generation is not None and generation.engine == "vllm"
    assert generation.mode == ("colocate" if shares else "server")
    assert generation.memory_share == theirs["vllm_gpu_memory_utilization"]
    assert generation.tensor_parallel_degree == theirs["vllm_tensor_parallel_size"]
    assert generation.sleep == theirs["vllm_enable_sleep"]
    assert generation.offloads_optimizer == theirs.get("deepspeed_enable_sleep", False)
    assert generation.num_generations == theirs["n_samples_per_prompt"]
    has_reference = shares and theirs["init_kl_coef"] > 0
    assert plan.reference_model == ("same" if has_reference else "none")
    if theirs.get("use_dynamic_batch"):
        of_tokens = theirs["train_max_tokens_per_gpu"] / plan.seq_len
        assert plan.origins["micro_batch_size"].may_be == (int(of_tokens),)
        assert plan.micro_batch_size == int(of_tokens) + 1
    else:
        assert plan.micro_batch_size == theirs["micro_train_batch_size"]
        assert generation.rollout_rows == theirs["micro_rollout_batch_size"]


@pytest.mark.parametrize("name", ON_RAY)
def test_groups_on_ray_get_a_verdict_with_what_stands_beside_the_actor(name: str) -> None:
    argv = LAUNCHES[name]["argv"]
    judged = judge_plan(replace(read(argv), device="h100-sxm-80"), load_plugins(), Policy())

    assert judged.verdict.answer is Answer.FITS and judged.estimate is not None
    terms = {term.name: term for term in judged.estimate.terms}
    assert ("inference engine: weights" in terms) is ("colocate_all" in argv)
    assert ("parameters of the reference model" in terms) is (name == "ray_group_norm")
    sleeps = Moment.ROLLOUT not in terms["optimizer states"].moments
    assert sleeps is ("enable_sleep" in argv)
    others = terms.get("other processes on the card: contexts and NCCL buffers")
    assert (others is None) is (name == "ray_own_cards")


def test_a_critic_and_a_reward_model_of_the_actors_shapes_are_judged_on_its_cards() -> None:
    argv = LAUNCHES["ray_group_norm"]["argv"].replace("--remote_rm_url rewards.py", "")
    argv = argv.replace("--advantage_estimator group_norm", "--reward_pretrain me/qwen2.5-7b-rm")
    plan = read(argv)
    judged = judge_plan(replace(plan, device="h100-sxm-80"), load_plugins(), Policy())
    awake = replace(plan, device="a100-sxm-40", generation=replace(plan.generation, sleep=False))

    assert plan.reward_models == ("same",)
    assert unpriced(plan) == {SECOND, CRITIC, WAYS}
    assert judged.verdict.answer is Answer.FITS and judged.estimate is not None
    names = {term.name: term for term in judged.estimate.terms}
    assert names["parameters of the reward model"].num_bytes > 10**9
    assert names["parameters of the reference model"].num_bytes > 10**9
    # what only a name says refuses nothing
    assert judge_plan(awake, load_plugins(), Policy()).verdict.answer is Answer.UNKNOWN


@pytest.mark.parametrize(("ranks", "answer"), [(1, Answer.FITS), (2, Answer.UNKNOWN)])
def test_a_reference_on_fewer_cards_fits_where_its_share_does(ranks: int, answer: Answer) -> None:
    model = "meta-llama/Meta-Llama-3-70B" if ranks == 2 else "Qwen/Qwen2.5-7B"
    argv = LAUNCHES["ray_own_cards"]["argv"].replace("Qwen/Qwen2.5-7B", model)
    argv += f" --adam_offload --advantage_estimator reinforce --ref_num_gpus_per_node {ranks}"
    argv += " --actor_num_gpus_per_node 8 --vllm_tensor_parallel_size 4 --vllm_num_engines 1"
    argv += " --packing_samples"
    plan = read(argv)
    verdict = judge_plan(replace(plan, device="h100-sxm-80"), load_plugins(), Policy()).verdict

    assert FEWER["ref"] in unpriced(plan)
    assert verdict.answer is answer
    assert (FEWER["ref"] in verdict.unpriced) is (answer is Answer.UNKNOWN)


def test_no_ranks_are_refused() -> None:
    plan = LAUNCHES["ray_own_cards"]["argv"] + " --actor_num_nodes 0"

    with pytest.raises(BadInput, match="one GPU at least"):
        read(plan)


def test_models_that_only_their_names_tell_of_are_named() -> None:
    argv = LAUNCHES["ray_own_cards"]["argv"].replace("--remote_rm_url http://scores", "")
    fewer = LAUNCHES["ray_own_cards"]["argv"] + " --adam_offload --critic_num_gpus_per_node 2"

    assert unpriced(read(argv + " --reward_pretrain a/b")) == {"a reward model", CRITIC, WAYS}
    like = read(argv + " --reward_pretrain me/qwen2.5-7b-rm-v2")
    assert unpriced(like) == {SECOND, WAYS}
    assert unpriced(read(fewer)) == {CRITIC, FEWER["ref"], WAYS}
    assert unpriced(read(LAUNCHES["ray_sections"]["argv"] + " --train.enable_ema")) == {
        "an averaged copy"
    }
    without = LAUNCHES["ray_own_cards"]["argv"].replace("--vllm_num_engines 2", "")
    assert "completions that the actor generates itself" in unpriced(read(without))


def test_a_checkouts_own_script_is_read_as_the_module() -> None:
    argv = LAUNCHES["sft_defaults"]["argv"]
    script = argv.replace("--module openrlhf.cli.train_sft", "../openrlhf/cli/train_sft.py")

    assert read(script).to_dict() == read(argv).to_dict()


@pytest.mark.parametrize(
    ("kernel", "attention", "left_out"),
    [
        ("kernels-community/flash-attn3@main", "flash_attention_3", False),
        ("flash_attention_3", "flash_attention_3", False),
        ("flex_attention", "flash_attention_2", True),
    ],
)
def test_a_kernel_by_any_name_is_read_and_refuses_no_launch(kernel, attention, left_out) -> None:
    plan = read(
        "deepspeed --num_gpus 8 --module openrlhf.cli.train_sft --pretrain Qwen/Qwen2.5-7B"
        f" --param_dtype bf16 --attn_implementation {kernel}"
    )

    assert plan.attention == attention
    assert (f"attention by {kernel}" in unpriced(plan)) == left_out
    assert not [notice for notice in plan.notices if notice.severity == "error"]

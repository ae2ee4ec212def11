"""Launches of ms-swift before 3.0: the plan of what 3.0 calls the same, with the defaults that were others."""

from __future__ import annotations

import pytest

from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.swift import LAUNCHER
from preflight.launchers.swift.before import DEFAULTS, NOT_MODELLED, RENAMED
from preflight.launchers.swift.table import (
    arguments_before,
    arguments_of,
    is_before,
    model_before,
    preset,
)

OLD = arguments_before().arguments
QWEN = "--dataset alpaca-en --model"
SEEN = {"CUDA_VISIBLE_DEVICES": "0"}


def read(argv: str, **env: str) -> LaunchPlan:
    command = LaunchCommand(tuple(argv.split()), {**SEEN, **env}, "/")
    plan = LAUNCHER.read(command)
    assert plan is not None
    return plan


FIELDS = (
    *("model", "objective", "engine", "world_size", "micro_batch_size", "seq_len", "sequence_kind"),
    *("gradient_accumulation_steps", "eval_micro_batch_size", "load_dtype", "mixed_precision"),
    *("activation_checkpointing", "attention", "loss", "optimizer", "adapter", "base_quantization"),
)
PAIRS = {
    "LoRA": (
        "--sft_type lora --lora_rank 16 --lora_alpha 64 --lora_target_modules ALL",
        "--train_type lora --lora_rank 16 --lora_alpha 64 --target_modules all-linear",
    ),
    "modules by name": (
        "--lora_target_modules q_proj v_proj --lora_dropout_p 0.1",
        "--target_modules q_proj v_proj --lora_dropout 0.1",
    ),
    "modules in one word": (
        "--target_modules q_proj,v_proj --lora_dtype AUTO",
        "--target_modules q_proj v_proj",
    ),
    "the whole model": (
        "--sft_type full --batch_size 4 --dtype bf16 --use_flash_attn true",
        "--train_type full --per_device_train_batch_size 4 --per_device_eval_batch_size 4 --attn_impl flash_attn",
    ),
    "QLoRA": (
        "--quantization_bit 4 --bnb_4bit_comp_dtype bf16 --target_modules ALL",
        "--quant_method bnb --quant_bits 4 --bnb_4bit_compute_dtype bfloat16 --target_modules all-linear",
    ),
    "no evaluation": (
        "--dataset_test_ratio 0 --target_modules ALL --max_length 512",
        "--split_dataset_ratio 0 --target_modules all-linear --max_length 512",
    ),
}


@pytest.mark.parametrize("old, new", PAIRS.values(), ids=PAIRS)
def test_a_launch_has_the_plan_of_what_3_0_calls_the_same(old: str, new: str) -> None:
    usual = "--torch_dtype bfloat16 --optim adamw_torch --per_device_train_batch_size 1"
    kept = usual if "--per_device_train_batch_size" not in new else usual.partition(" --per")[0]
    length = "" if "--max_length" in new else "--max_length 2048"
    ratio = "" if "split_dataset" in new else "--split_dataset_ratio 0.01"
    before = read(f"swift sft {QWEN}_id_or_path qwen/Qwen2-7B-Instruct {old}")
    after = read(f"swift sft {QWEN} qwen/Qwen2-7B-Instruct {new} {kept} {length} {ratio}")

    for name in FIELDS:
        assert getattr(before, name) == getattr(after, name), name
    assert not [notice for notice in before.notices if notice.unpriced]


def test_every_name_is_one_that_these_releases_have_and_every_new_one_is_of_3_0() -> None:
    new = arguments_of("sft").arguments

    assert set(RENAMED) <= set(OLD) and set(NOT_MODELLED) <= set(OLD)
    assert {*RENAMED.values(), *DEFAULTS} <= set(new)
    assert not set(RENAMED) & set(new)


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_is_what_the_release_has(name: str) -> None:
    old = next(
        (old for old, new in RENAMED.items() if new == name and old not in ("custom",)), name
    )
    default = OLD[old].default if old in OLD else OLD[name].default

    assert DEFAULTS[name] == default


@pytest.mark.parametrize(
    ("kind", "model", "targets"),
    [
        ("qwen2-7b-instruct", "Qwen/Qwen2-7B-Instruct", ("q_proj", "k_proj", "v_proj")),
        ("chatglm3-6b", "THUDM/chatglm3-6b", ("query_key_value",)),
        ("qwen1half-14b", "Qwen/Qwen1.5-14B", ("q_proj", "k_proj", "v_proj")),
    ],
)
def test_the_kind_of_a_model_says_which_it_is_and_what_lora_adapts(kind, model, targets) -> None:
    plan = read(f"swift sft --model_type {kind} --dataset alpaca-en")
    by_id = read(f"swift sft --model_id_or_path /data/{model.split('/')[1]} --dataset alpaca-en")

    assert plan.model == model and plan.seq_len == 2048
    assert plan.adapter is not None and tuple(plan.adapter.targets) == targets
    assert by_id.adapter == plan.adapter


def test_a_model_of_no_known_kind_has_an_adapter_on_all_that_it_may_be_on() -> None:
    plan = read("swift sft --model_id_or_path /data/ours --dataset alpaca-en")
    (notice,) = (notice for notice in plan.notices if notice.unpriced)

    assert plan.adapter is not None and plan.adapter.targets == "all-linear"
    assert notice.takes == "less"


def test_a_model_that_sees_and_another_packages_adapter_are_named() -> None:
    sees = read("swift sft --model_type yi-vl-6b-chat --dataset coco-en-2-mini")
    other = read("swift sft --model_type yi-6b --tuner_backend swift --dataset a")

    assert "parts of a model that sees" in {notice.unpriced for notice in sees.notices}
    assert "another package's adapter" in {notice.unpriced for notice in other.notices}


def test_a_dtype_that_a_kind_has_is_taken_and_fp16_trains_whole_in_fp32() -> None:
    kind = next(
        name
        for name in ("skywork-13b", "codefuse-qwen-14b-chat", "polylm-13b", "tongyi-finance-14b")
        if (found := model_before(name, "")) is not None and found.dtype is None
    )
    whole = read(f"swift sft --model_type {kind} --sft_type full --dtype fp16 --dataset a")
    half = read(f"swift sft --model_type {kind} --dtype fp16 --dataset a")

    assert (whole.load_dtype, whole.mixed_precision) == ("fp32", "fp16")
    assert (half.load_dtype, half.mixed_precision) == ("fp16", "fp16")


def test_a_config_by_name_is_that_releases_own() -> None:
    words = "--model_type qwen2-7b --sft_type full --dataset a --deepspeed default-zero2"
    plan = read(f"swift sft {words}", NPROC_PER_NODE="4", CUDA_VISIBLE_DEVICES="0,1,2,3")
    own, later = preset("zero2", "2.6.1"), preset("zero2", "4.6.0")

    assert (plan.engine, plan.world_size) == ("zero2", 4)
    assert own is not None and later is not None
    assert "optimizer" in own and "optimizer" not in later


def test_nothing_is_written_in_words_that_a_release_does_not_have() -> None:
    before = read("swift sft --model_type qwen2-7b --dataset a --max_length 4096")

    assert LAUNCHER.write(before=before, after=before.with_edits({"seq_len": 1024})) is None


def test_launches_of_3_0_and_later_are_none_of_before() -> None:
    assert not is_before({"model", "train_type", "dataset"})
    assert not is_before({"model", "model_type", "dataset"})

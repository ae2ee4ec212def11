"""What a script says by Unsloth's calls is read with Unsloth's defaults; what they leave to run time is open."""

from __future__ import annotations

import pytest
from launch_of_script import opens, plan_of

from preflight.launch import Adapter

SCRIPT = """\
from unsloth import FastLanguageModel
from trl import SFTConfig, SFTTrainer

model, tokenizer = FastLanguageModel.from_pretrained("unsloth/Meta-Llama-3.1-8B"LOAD)
ADAPT
SFTTrainer(model=model, args=SFTConfig(output_dir="out", per_device_train_batch_size=2ARGS)).train()
"""
ADAPTED = "model = FastLanguageModel.get_peft_model(model, r=32, lora_alpha=64)"
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def read(folder, load="", adapt=ADAPTED, args=""):
    script = SCRIPT.replace("LOAD", load).replace("ADAPT", adapt).replace("ARGS", args)
    return plan_of(folder, "python train.py", {"train.py": script})


def unpriced(plan):
    return {notice.unpriced for notice in plan.notices if notice.unpriced}


def test_its_defaults_are_four_bits_an_adapter_and_checkpointing(tmp_path):
    plan = read(tmp_path)

    assert plan.model == "unsloth/Meta-Llama-3.1-8B"
    packed = plan.base_quantization
    assert packed is not None
    assert (packed.scheme, packed.double_quant, packed.compute_dtype) == ("nf4", True, "bf16")
    assert plan.adapter is not None and plan.adapter.targets == PROJECTIONS
    assert (plan.adapter.rank, plan.adapter.alpha, plan.adapter.dropout) == (32, 64, 0.0)
    assert (plan.activation_checkpointing, plan.seq_len, plan.load_dtype) == ("full", 2048, "bf16")
    assert not {"adapter", "base_quantization", "activation_checkpointing"} & opens(plan)
    assert unpriced(plan) == {"Unsloth's kernels"}


@pytest.mark.parametrize(
    ("load", "args", "seq_len"),
    [
        (", max_seq_length=4096", "", 4096),
        (", max_seq_length=4096", ", max_length=1024", 1024),
        (", max_seq_length=512", ", max_length=1024", 512),
        (", max_seq_length=4096", ", max_seq_length=1024, unsloth_num_chunks=4", 1024),
    ],
)
def test_rows_are_cut_at_the_shorter_of_the_models_length_and_the_trainers(
    tmp_path, load, args, seq_len
):
    assert read(tmp_path, load, args=args).seq_len == seq_len


def test_a_model_in_sixteen_bits_without_an_adapter_trains_whole(tmp_path):
    plan = read(tmp_path, ", load_in_4bit=False", adapt="")

    assert (plan.base_quantization, plan.adapter, plan.load_dtype) == (None, None, "bf16")


@pytest.mark.parametrize("load", [", load_in_8bit=True", ", full_finetuning=True", ", **given()"])
def test_what_is_not_followed_is_open(tmp_path, load):
    plan = read(tmp_path, load)

    assert {"base_quantization", "load_dtype", "activation_checkpointing"} <= opens(plan)


def test_an_adapter_under_a_condition_is_open(tmp_path):
    plan = read(tmp_path, adapt=f"if given():\n    {ADAPTED}")

    assert "adapter" in opens(plan)
    assert isinstance(plan.origins["adapter"].may_be[-1], Adapter)


def test_an_engine_for_generation_is_named(tmp_path):
    assert "an inference engine's share of the card" in unpriced(
        read(tmp_path, ", fast_inference=True")
    )


def test_a_class_of_that_name_from_elsewhere_is_not_unsloths(tmp_path):
    script = (
        SCRIPT.replace("from unsloth", "from mine")
        .replace("LOAD", "")
        .replace("ADAPT", ADAPTED)
        .replace("ARGS", "")
    )
    plan = plan_of(tmp_path, "python train.py", {"train.py": script})

    assert {"adapter", "base_quantization"} <= opens(plan)

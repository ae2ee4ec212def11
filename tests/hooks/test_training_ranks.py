"""Refusals that need a process group: one process of one rank runs them all, and each is what a check names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from some_plugins import plugins_of
from tiny_llama import TINY_LLAMA

from preflight.launch import Adapter, BaseQuantization, LaunchCommand, LaunchPlan
from preflight.models import describe
from preflight.rewriting import read_launch

HERE = Path(__file__).parent
TRAIN = """\
from transformers import AutoModelForCausalLM, HfArgumentParser, Trainer, TrainingArguments

args = HfArgumentParser(TrainingArguments).parse_args_into_dataclasses()[0]
model = AutoModelForCausalLM.from_pretrained("meta-llama/Llama-3.2-1B"{how})
Trainer(model=model, args=args).train()
"""


@pytest.fixture(scope="module")
def outcomes(ranks):
    """Return what the libraries did, by the name of the experiment."""
    printed = ranks.printed(HERE / "training_ranks.py", world=1)
    return json.loads(printed.strip().splitlines()[-1])


@pytest.fixture(scope="module")
def plugins():
    return plugins_of("check_", "read_")


def ids(plugins, plan):
    model = describe(TINY_LLAMA, "tiny", "test")
    items = plugins.collect("preflight_findings", plan=plan, model=model, device=None)
    return {finding.id for _, finding in items}


def read(plugins, folder, words, how=""):
    (folder / "train.py").write_text(TRAIN.format(how=how))
    (folder / "zero3.json").write_text('{"zero_optimization": {"stage": 3}}')
    return read_launch(LaunchCommand(tuple(words.split()), {}, str(folder)), plugins)


SHARED = {"world_size": 8, "shard_degree": 8, "mixed_precision": "bf16", "load_dtype": "bf16"}
LORA = Adapter(targets=("q_proj", "v_proj"))


def test_fsdp_takes_no_8_bit_base(outcomes, plugins):
    int8 = {"base_quantization": BaseQuantization("int8"), "adapter": LORA}

    assert "Cannot flatten integer dtype tensors" in outcomes["fsdp1 int8"]
    assert "'Parameter' object has no attribute 'CB'" in outcomes["fsdp2 int8"]
    for engine in ("fsdp1", "fsdp2"):
        assert "PF417" in ids(plugins, LaunchPlan(engine=engine, **SHARED, **int8))
    assert "PF417" not in ids(plugins, LaunchPlan(engine="ddp", **SHARED, **int8))


def test_fsdp1_wants_packed_weights_in_the_dtype_of_the_others(outcomes, plugins):
    """The model of the experiments is loaded in bf16."""

    def is_named(storage):
        base = BaseQuantization("nf4", storage_dtype=storage)
        plan = LaunchPlan(engine="fsdp1", base_quantization=base, adapter=LORA, **SHARED)
        return "PF418" in ids(plugins, plan)

    assert "Cannot flatten integer dtype tensors" in outcomes["fsdp1 uint8"]
    assert "Must flatten tensors with uniform dtype" in outcomes["fsdp1 float32"]
    assert outcomes["fsdp1 bfloat16"] is None
    assert [is_named(storage) for storage in (None, "fp32", "bf16")] == [True, True, False]


def test_deepspeed_casts_packed_weights(outcomes, plugins):
    """Another 16-bit dtype reads the same bits as other numbers; its own, and bytes, are left alone."""

    def is_named(storage):
        base = BaseQuantization("nf4", storage_dtype=storage)
        plan = LaunchPlan(engine="zero1", base_quantization=base, adapter=LORA, **SHARED)
        return "PF419" in ids(plugins, plan)

    assert outcomes["cast float16"] > 0.1
    assert outcomes["cast uint8"] == outcomes["cast bfloat16"] == 0
    assert [is_named(storage) for storage in ("fp16", None, "bf16")] == [True, False, False]


def test_ddp_that_looks_for_unused_parameters_takes_no_reentrant_checkpointing(
    outcomes, plugins, tmp_path
):
    def is_named(reentrant, unused):
        kwargs = f'{{"use_reentrant":{reentrant}}}'
        words = (
            "torchrun --nproc-per-node 8 train.py --gradient_checkpointing true"
            f" --gradient_checkpointing_kwargs {kwargs} --ddp_find_unused_parameters {unused}"
        )
        return "PF429" in ids(plugins, read(plugins, tmp_path, words))

    assert "Expected to mark a variable ready only once" in outcomes["ddp reentrant unused"]
    assert outcomes["ddp reentrant"] is outcomes["ddp unused"] is None
    assert is_named("true", "true")
    assert not is_named("true", "false")
    assert not is_named("false", "true")


def test_accelerate_refuses_a_model_on_several_devices(outcomes, plugins, tmp_path):
    words = "torchrun --nproc-per-node {} train.py --output_dir out"
    how = ', device_map="auto"'

    assert "in any distributed mode" in outcomes["several devices"]
    assert outcomes["one device"] is None
    assert "PF420" in ids(plugins, read(plugins, tmp_path, words.format(8), how))
    assert "PF420" not in ids(plugins, read(plugins, tmp_path, words.format(1), how))
    assert "PF420" not in ids(plugins, read(plugins, tmp_path, words.format(8)))


def test_layerwise_optimizers_train_on_one_rank(outcomes, plugins, tmp_path):
    words = (
        "torchrun --nproc-per-node {} train.py --optim galore_adamw_layerwise"
        " --optim_target_modules mlp"
    )

    assert "does not support DDP at this time" in outcomes["layerwise"]
    assert "PF434" in ids(plugins, read(plugins, tmp_path, words.format(8)))
    assert "PF434" not in ids(plugins, read(plugins, tmp_path, words.format(1)))


@pytest.mark.parametrize(("stage", "is_flat"), [(0, False), (1, True), (2, True), (3, True)])
def test_zero_gives_low_rank_optimizers_no_matrix(plugins, tmp_path, stage, is_flat):
    """`IndexError: tuple index out of range` of GaLoreProjector.project, run so with galore_torch 1.0 and apollo_torch 1.0.3."""
    config = (
        f'{{"zero_optimization": {{"stage": {stage}}}, "train_micro_batch_size_per_gpu": "auto"}}'
    )
    (tmp_path / "zero.json").write_text(config)
    words = "deepspeed --num_gpus 2 train.py --deepspeed zero.json --optim galore_adamw --optim_target_modules all-linear"

    assert ("PF434" in ids(plugins, read(plugins, tmp_path, words))) is is_flat


def test_the_trainer_refuses_under_deepspeed(outcomes, plugins, tmp_path):
    deepspeed = "deepspeed --num_gpus 8 train.py --deepspeed zero3.json --output_dir out "
    best = (
        "--save_only_model true --load_best_model_at_end true --eval_strategy steps"
        " --metric_for_best_model loss"
    )

    assert "isn't supported yet with DeepSpeed Zero-3" in outcomes["zero3 auto batch"]
    assert outcomes["zero1 auto batch"] is None
    assert "can't be used with `save_only_model`" in outcomes["zero1 best"]
    found = ids(plugins, read(plugins, tmp_path, f"{deepspeed} --auto_find_batch_size true"))
    assert "PF432" in found
    assert "PF445" in ids(plugins, read(plugins, tmp_path, deepspeed + best))
    alone = read(plugins, tmp_path, f"torchrun --nproc-per-node 8 train.py {best}")
    assert not {"PF432", "PF445"} & ids(plugins, alone)

"""Every remedy that is offered for a launch and can be written gives its plan when the rewrite is read again."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from said_versions import say_versions

from preflight.launch import LaunchCommand, LaunchPlan, Origin
from preflight.plan_parts import SET_ORIGIN
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch, write_checked

LLAMA = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
    "dtype": "bfloat16",
}
FILES = {
    "train.py": "from transformers import HfArgumentParser, TrainingArguments\nHfArgumentParser(TrainingArguments)\n",
    "sft.py": "from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser\nTrlParser((SFTConfig, ModelConfig))\n",
    "loop.py": "from accelerate import Accelerator\nAccelerator()\n",
    "ddp.yaml": "distributed_type: MULTI_GPU  # plain\nnum_processes: 8\nmixed_precision: bf16\n",
    "fsdp2.yaml": "distributed_type: FSDP\nnum_processes: 8\nmixed_precision: bf16\nfsdp_config:\n"
    "  fsdp_version: 2\n  fsdp_reshard_after_forward: false\n",
    "fsdp1.yaml": "distributed_type: FSDP\nnum_processes: 16\nnum_machines: 2\nmachine_rank: 0\n"
    "main_process_ip: 10.0.0.1\nmain_process_port: 29500\nmixed_precision: bf16\nfsdp_config:\n"
    "  fsdp_sharding_strategy: HYBRID_SHARD_ZERO2\n  fsdp_auto_wrap_policy: SIZE_BASED_WRAP\n"
    "  fsdp_min_num_params: 200000000\n",
    "copies.yaml": "distributed_type: FSDP\nnum_processes: 8\nmixed_precision: bf16\nfsdp_config:\n"
    "  fsdp_version: 2\n  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP\nparallelism_config:\n"
    "  parallelism_config_dp_replicate_size: 2\n  parallelism_config_dp_shard_size: 4\n",
    "zero.yaml": "distributed_type: DEEPSPEED\nnum_processes: 8\nmixed_precision: bf16\n"
    "deepspeed_config:\n  zero_stage: 1\n",
    "file.yaml": "distributed_type: DEEPSPEED\nnum_processes: 8\ndeepspeed_config:\n"
    "  deepspeed_config_file: ds3.json\n",
    "ds2.json": '{\n  "zero_optimization": {"stage": 2, "stage3_prefetch_bucket_size": "auto"},\n'
    '  "bf16": {"enabled": "auto"},\n  "train_micro_batch_size_per_gpu": "auto"\n}\n',
    "ds3.json": '{\n  "zero_optimization": {\n    "stage": 3\n  },\n  "bf16": {"enabled": "auto"},\n'
    '  "gradient_accumulation_steps": "auto"\n}\n',
    "offloaded.json": '{\n  "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}},\n'
    '  "bf16": {"enabled": "auto"}\n}\n',
    "sft.yaml": "model_name_or_path: m\nper_device_train_batch_size: 4\nmax_length: 2048\n"
    "num_processes: 4\nattn_implementation: eager\n",
}
BATCH = "--per_device_train_batch_size 8 --eval_strategy steps --bf16 true --optim adamw_torch"
TITAN = Path(__file__).parents[1] / "configs" / "torchtitan" / "llama_8b.toml"
EVERY = {"expandable_segments", "activation_checkpointing", "micro_batch"}
FULL = EVERY | {"evaluation_batch", "fused_optimizer"}
LAUNCHES: dict[str, tuple[str, set[str]]] = {
    "ddp of accelerate": (
        f"accelerate launch --config_file ddp.yaml train.py {BATCH}",
        FULL | {"sharding"},
    ),
    "ddp by flags": (
        f"accelerate launch --multi_gpu --num_processes 8 train.py {BATCH}",
        FULL | {"sharding"},
    ),
    "ddp of torchrun": (f"torchrun --nproc-per-node 8 train.py {BATCH}", FULL | {"sharding"}),
    "fsdp2 without a wrap policy": (
        f"accelerate launch --config_file fsdp2.yaml train.py {BATCH}",
        FULL | {"wrap_policy", "reshard_after_forward", "sync_each_batch", "offload_optimizer"},
    ),
    "fsdp1 within nodes": (
        f"accelerate launch --config_file fsdp1.yaml train.py {BATCH}",
        FULL
        | {
            "wrap_policy",
            "sharding",
            "reshard_after_forward",
            "sync_each_batch",
            "offload_optimizer",
        },
    ),
    "fsdp2 with copies": (
        f"accelerate launch --config_file copies.yaml train.py {BATCH}",
        FULL | {"sharding", "sync_each_batch", "offload_optimizer"},
    ),
    "fsdp2 of the trainer": (
        f"torchrun --nproc-per-node 8 train.py {BATCH} --fsdp full_shard --fsdp_config"
        ' \'{"version": 2, "auto_wrap_policy": "NO_WRAP", "reshard_after_forward": false}\'',
        FULL | {"wrap_policy", "reshard_after_forward", "sync_each_batch", "offload_optimizer"},
    ),
    "zero by the launcher's keys": (
        f"accelerate launch --config_file zero.yaml train.py {BATCH}",
        FULL | {"sharding", "offload_optimizer"},
    ),
    "zero2 of a file": (
        f"deepspeed --num_gpus 8 train.py {BATCH} --deepspeed ds2.json",
        FULL | {"sharding", "deepspeed_buckets", "offload_optimizer"},
    ),
    "zero3 of a file": (
        f"accelerate launch --config_file file.yaml train.py {BATCH}",
        FULL
        | {"deepspeed_buckets", "stage3_live_parameters", "sub_group_size", "offload_optimizer"},
    ),
    "zero3 with an offloaded optimizer": (
        f"torchrun --nproc_per_node 8 train.py {BATCH} --deepspeed offloaded.json",
        (FULL - {"fused_optimizer"})
        | {"deepspeed_buckets", "stage3_live_parameters", "sub_group_size", "offload_params"},
    ),
    "lora of trl, fp32 base": (
        f"accelerate launch --config_file ddp.yaml sft.py {BATCH} --use_peft --dtype float32"
        " --attn_implementation eager --gradient_checkpointing true",
        (FULL - {"activation_checkpointing"})
        | {"attention_kernel", "frozen_base_dtype", "offload_activations", "sharding"},
    ),
    "fsdp2 of trl": (
        f"accelerate launch --config_file fsdp2.yaml sft.py {BATCH} --max_length 4096"
        " --gradient_checkpointing true --per_device_train_batch_size 1",
        (FULL - {"activation_checkpointing", "micro_batch"})
        | {
            "context_parallel",
            "offload_activations",
            "offload_optimizer",
            "reshard_after_forward",
            "sync_each_batch",
            "wrap_policy",
        },
    ),
    "the trl command": (
        "trl sft --config sft.yaml",
        {
            "attention_kernel",
            "expandable_segments",
            "micro_batch",
            "offload_activations",
            "sharding",
        },
    ),
    "grpo beside an engine": (
        "trl grpo --model_name_or_path m --dataset_name d --num_processes 4 --per_device_train_batch_size 4"
        " --num_generations 4 --steps_per_generation 2 --gradient_accumulation_steps 2 --dtype bfloat16"
        " --use_vllm true --vllm_max_model_length 2048 --gradient_checkpointing true",
        {"engine_sleep", "expandable_segments", "micro_batch"},
    ),
    "checkpointed trainer": (
        f"accelerate launch --config_file ddp.yaml train.py {BATCH} --activation_checkpointing",
        (FULL - {"activation_checkpointing"}) | {"offload_activations", "sharding"},
    ),
    "torchtune": (
        "tune run --nproc_per_node 4 full_finetune_distributed --config llama3_1/8B_full"
        " batch_size=4 tokenizer.max_seq_len=2048",
        {"expandable_segments", "offload_activations", "offload_optimizer"},
    ),
    "torchtitan": (
        f"torchrun --nproc_per_node 8 -m torchtitan.train --job.config_file {TITAN}",
        {"activation_checkpointing", "expandable_segments", "offload_optimizer"},
    ),
    "a loop of one's own": (
        "accelerate launch --config_file fsdp2.yaml loop.py",
        {"expandable_segments", "wrap_policy", "reshard_after_forward", "offload_optimizer"},
    ),
}
CHANGES_TRAINING: dict[str, set[str]] = {
    "ddp of accelerate": {"adafactor", "optimizer_8bit"},
    "ddp by flags": {"adafactor", "optimizer_8bit"},
    "ddp of torchrun": {"adafactor", "optimizer_8bit"},
    "fsdp1 within nodes": {"optimizer_8bit"},
    "zero by the launcher's keys": {"optimizer_8bit"},
    "zero2 of a file": {"optimizer_8bit", "optimizer_states_16bit"},
    "zero3 of a file": {"optimizer_8bit", "optimizer_states_16bit"},
    "lora of trl, fp32 base": {"qlora", "seq_len"},
    "fsdp2 of trl": {"lora", "pure_bf16", "qlora", "seq_len"},
    "the trl command": {"adafactor", "lora", "optimizer_8bit", "pure_bf16", "qlora", "seq_len"},
    "grpo beside an engine": {"adafactor", "lora", "optimizer_8bit", "qlora", "sharding"},
    "checkpointed trainer": {"adafactor", "optimizer_8bit"},
    "torchtune": {"micro_batch", "seq_len"},
    "torchtitan": {"micro_batch", "seq_len"},
}
"""What is written into the same launches where it is allowed."""
NOT_WRITTEN = {
    "zero by the launcher's keys": {"deepspeed_buckets"},
    "a loop of one's own": {"activation_checkpointing"},
}
"""Offered where they would help, and said to be impossible to write: accelerate's own keys have no buckets."""


def plan_of(line: str, folder: Path, plugins: Any) -> LaunchPlan:
    for name, text in FILES.items():
        (folder / name).write_text(text)
    say_versions(folder)
    env = {"HF_HOME": str(folder / "hf")}
    plan = read_launch(LaunchCommand(tuple(shlex.split(line)), env, str(folder)), plugins)
    assert plan is not None
    origins = {**plan.origins, "model_config": Origin(SET_ORIGIN)}
    # A 16-bit model under DDP has 16-bit states, which FSDP would not keep: then sharding changes training.
    config = {**LLAMA, "dtype": "float32"} if plan.adapter is None else LLAMA
    return replace(plan, model_config=config, origins=origins)


@pytest.mark.parametrize("name", LAUNCHES)
def test_every_safe_remedy_is_written_and_read_again(name: str, tmp_path: Path) -> None:
    line, expected = LAUNCHES[name]
    plugins = load_plugins()
    plan = plan_of(line, tmp_path, plugins)
    model = plugins.first("preflight_describe_model", plan=plan)
    items: list[Any] = [
        remedy
        for _, remedy in plugins.collect("preflight_remedies", plan=plan, model=model)
        if remedy.keeps_training
    ]
    written = {
        remedy.id
        for remedy in items
        if write_checked(plan, plan.with_edits(remedy.edits), plugins) is not None
    }

    assert written == expected
    assert {remedy.id for remedy in items} - written == NOT_WRITTEN.get(name, set())


def test_a_loss_in_pieces_is_written_where_liger_is_installed(tmp_path: Path, monkeypatch) -> None:
    """Only the names of installed packages are read, so a folder of that name is an installed package."""
    packages = tmp_path / "site"
    (packages / "liger_kernel-0.8.5.dist-info").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(packages))
    plugins = load_plugins()
    plan = plan_of(LAUNCHES["ddp of torchrun"][0], tmp_path, plugins)
    model = plugins.first("preflight_describe_model", plan=plan)
    found: list[Any] = plugins.collect_from(
        "remedy_chunked_loss", "preflight_remedies", plan=plan, model=model
    )
    rewrite = write_checked(plan, plan.with_edits(found[0].edits), plugins)

    assert rewrite is not None
    assert rewrite.argv[-2:] == ("--use_liger_kernel", "true")


@pytest.mark.parametrize("name", LAUNCHES)
def test_all_remedies_together_are_written_and_read_again(name: str, tmp_path: Path) -> None:
    """One after the other, each as harsh as it gets, in the order of the built-ins."""
    plugins = load_plugins()
    before = plan_of(LAUNCHES[name][0], tmp_path, plugins)
    model = plugins.first("preflight_describe_model", plan=before)
    after, applied = before, set()
    for owner in filter(lambda name: name.startswith("remedy_"), plugins.names):
        doses: list[Any] = plugins.collect_from(
            owner, "preflight_remedies", plan=after, model=model
        )
        if doses and doses[-1].keeps_training and doses[-1].id in LAUNCHES[name][1]:
            after = after.with_edits(doses[-1].edits)
            applied.add(doses[-1].id)

    assert len(applied) >= 3
    assert write_checked(before, after, plugins) is not None


@pytest.mark.parametrize("name", LAUNCHES)
def test_what_changes_training_is_written_where_there_is_a_key(name: str, tmp_path: Path) -> None:
    plugins = load_plugins()
    plan = plan_of(LAUNCHES[name][0], tmp_path, plugins)
    model = plugins.first("preflight_describe_model", plan=plan)
    items: list[Any] = [
        remedy
        for _, remedy in plugins.collect("preflight_remedies", plan=plan, model=model)
        if not remedy.keeps_training
    ]
    written = {
        remedy.id
        for remedy in items
        if write_checked(plan, plan.with_edits(remedy.edits), plugins) is not None
    }

    assert written == CHANGES_TRAINING.get(name, set())

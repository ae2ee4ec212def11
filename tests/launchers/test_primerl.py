"""prime-rl's trainers, read from TOML files behind `@` and the keys that beat them.

It is on no package index, and its config classes need a library that is on none either: values are those of its classes, by
hand (packages/prime-rl-configs of its repository, November 2026).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from framework_launches import plan_of_words

import preflight
from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.launchers.primerl import LAUNCHER
from preflight.unpriced_names import PRIME_RL, SENT_TOKENS
from preflight.verdict import Answer

FOLDER = Path(__file__).with_name("prime_rl")


def read(words: str, folder: Path = FOLDER) -> LaunchPlan:
    plan = plan_of_words(LAUNCHER.read, words, folder, {})
    assert plan is not None
    return plan


def fields_of(plan: LaunchPlan, *names: str) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in names}


def test_an_sft_config_is_read_with_the_defaults_of_its_classes() -> None:
    plan = read("sft @ sft.toml")

    expected = {
        "model": "Qwen/Qwen3-1.7B",
        "objective": "sft",
        "seq_len": 4096,
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 8,
        "world_size": 4,
        "engine": "fsdp2",
        "shard_degree": 4,
        "load_dtype": "fp32",
        "mixed_precision": "bf16",
        "reduce_dtype": "bf16",
        "activation_checkpointing": "full",
        "offload_activations": "cpu",
        "offload_optimizer": "none",
        "torch_compile": True,
        "attention": "flash_attention_3",
        "sync_each_batch": True,
        "expandable_segments": True,
        "optimizer": "adamw_torch",
        "max_grad_norm": 0.5,
    }
    assert fields_of(plan, *expected) == expected
    assert any("states wait on the host" in notice.message for notice in plan.notices)


def test_before_0_7_nothing_is_saved_unless_something_says_so(tmp_path: Path) -> None:
    """Defaults of ModelConfig in the tags v0.6.0 and v0.7.0."""
    (tmp_path / "requirements.txt").write_text("prime-rl==0.6.0\n")
    (tmp_path / "sft.toml").write_text((FOLDER / "sft.toml").read_text())
    saving = ("activation_checkpointing", "offload_activations", "torch_compile")

    assert fields_of(read("sft @ sft.toml", tmp_path), *saving) == dict(
        zip(saving, ("none", "none", False), strict=True)
    )
    said = "sft @ sft.toml --model.ac.freq 1 --model.ac-offloading --model.compile.fullgraph"
    assert fields_of(read(said, tmp_path), *saving) == dict(
        zip(saving, ("full", "cpu", True), strict=True)
    )


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--model.optim-cpu-offload false", "optimizer", "adamw_torch_fused"),
        ("--model.full-offload", "offload_optimizer", "cpu"),
        ("--model.fsdp-cpu-offload", "offload_params", "cpu"),
        ("--model.attn flash_attention_2", "attention", "flash_attention_2"),
        ("--no-model.compile", "torch_compile", False),
        ("--model.ac-offloading None", "offload_activations", "none"),
        ("--model.ac.mode selective", "activation_checkpointing", "none"),
        ("--model.ac.freq 2", "activation_checkpointing", "selective_every_2"),
        ("--deployment.num-gpus 8 --deployment.num-train-gpus None", "world_size", 8),
    ],
)
def test_what_is_said_beats_the_release(words: str, field: str, value: object) -> None:
    assert fields_of(read(f"sft @ sft.toml {words}"), field) == {field: value}


@pytest.mark.parametrize(
    ("words", "unpriced"),
    [
        ("--model.vlm.freeze-vision-encoder", "images or audio beside the text"),
        ("--model.ep 8", SENT_TOKENS),
    ],
)
def test_a_tower_and_divided_experts_are_named(words: str, unpriced: str) -> None:
    assert unpriced in {notice.unpriced for notice in read(f"sft @ sft.toml {words}").notices}


def test_only_what_sft_and_rl_start_has_segments_that_expand() -> None:
    module = "torchrun --nproc-per-node 4 -m prime_rl.trainer.sft.train @ sft.toml"

    assert read("rl @ rl.toml").expandable_segments
    assert not read("trainer @ trainer.toml").expandable_segments
    assert not read(module).expandable_segments


def test_files_are_merged_in_order_and_flags_beat_them() -> None:
    plan = read("sft @ sft.toml @ longer.toml --data.micro-batch-size=1 --optim.max-norm 2.0")

    assert (plan.seq_len, plan.micro_batch_size, plan.max_grad_norm) == (8192, 1, 2.0)
    assert plan.origins["seq_len"].where == "longer.toml:2"


def test_a_file_of_a_section_and_switches_are_read() -> None:
    plan = read(
        "sft @ sft.toml --model @ lora.toml --no-model.reshard-after-forward --model.ac None"
    )

    assert plan.model == "Qwen/Qwen3-4B" and plan.adapter is not None
    assert plan.adapter.rank == 8 and plan.adapter.targets == ("q_proj", "v_proj")
    assert plan.reshard_after_forward is False and plan.activation_checkpointing == "none"


def test_the_trainer_of_an_rl_config_is_what_its_section_and_the_shared_keys_say() -> None:
    plan = read("rl @ rl.toml")

    expected = {
        "model": "Qwen/Qwen3-8B",
        "seq_len": 16384,
        "world_size": 16,
        "num_nodes": 2,
        "load_dtype": "bf16",
    }
    assert fields_of(plan, *expected) == expected
    assert read("rl @ rl.toml --trainer.model.seq-len 1024").seq_len == 1024


@pytest.mark.parametrize(
    "words",
    [
        "torchrun --nproc-per-node 8 src/prime_rl/trainer/sft/train.py @ sft.toml",
        "torchrun --nproc-per-node 8 -m prime_rl.trainer.sft.train @ sft.toml",
    ],
)
def test_ranks_that_torchrun_starts_are_its_own(words: str) -> None:
    plan = read(words)

    assert plan.world_size == 8 and plan.objective == "sft" and plan.seq_len == 4096


def test_the_rl_trainer_by_hand_is_one_process() -> None:
    assert read("trainer @ trainer.toml").world_size == 1


def test_a_program_of_that_name_without_a_file_is_left_alone() -> None:
    assert plan_of_words(LAUNCHER.read, "sft --config sft.yaml", FOLDER, {}) is None


def test_a_file_that_is_not_there_is_said() -> None:
    with pytest.raises(BadInput, match=r"absent\.toml"):
        read("sft @ absent.toml")


SMALL, LARGE = "allenai/OLMoE-1B-7B-0924", "Qwen/Qwen3-235B-A22B"


def check(words: str) -> preflight.Report:
    return preflight.check(words.split(), device="h100-sxm-80", cwd=FOLDER, env={})


def test_weights_and_states_alone_refuse_and_nothing_is_said_to_fit() -> None:
    """What its layers save is not counted; what FSDP2 keeps of every parameter is there at its step."""
    small, large = check("sft @ sft.toml"), check("sft @ sft.toml --model.name Qwen/Qwen3-32B")

    assert small.verdict.answer is Answer.UNKNOWN and PRIME_RL in small.verdict.unpriced
    assert large.verdict.answer is Answer.DOES_NOT_FIT
    experts = {
        name: check(f"sft @ sft.toml --model.name {name} --model.ep 8").verdict
        for name in (SMALL, LARGE)
    }
    assert experts[SMALL].answer is Answer.UNKNOWN
    assert SENT_TOKENS in experts[SMALL].unpriced
    assert experts[LARGE].answer is Answer.DOES_NOT_FIT
    offloaded = check("sft @ sft.toml --model.name Qwen/Qwen3-32B --model.full-offload true")
    assert offloaded.verdict.answer is Answer.UNKNOWN

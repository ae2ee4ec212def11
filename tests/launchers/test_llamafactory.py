"""LLaMA-Factory's launches: read as the manifest says, refused where its parser refuses, and written back.

LLaMA-Factory wants other versions of transformers and peft than the tests have, so its answers are kept in
tests/configs/llamafactory/asked.json, written by ask_llamafactory.py from LLaMA-Factory 0.9.5 and transformers 5.6.0.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from framework_launches import CONFIGS, Rewritten, cases_of, command_of

import preflight
from preflight.errors import BadInput
from preflight.launch import Adapter, BaseQuantization, LaunchCommand, LaunchPlan
from preflight.launchers.llamafactory import LAUNCHER
from preflight.launchers.llamafactory.keys import llamafactory_arguments

FOLDER = CONFIGS / "llamafactory"
CASES = cases_of("llamafactory")
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
DTYPES = ASKED.pop("trained_dtypes")
SETTLED = {name: said for name, said in ASKED.items() if "refused" not in said}
ATTENTIONS = {"auto": "sdpa", "sdpa": "sdpa", "disabled": "eager", "fa2": "flash_attention_2"}


def plan_of(config: str) -> LaunchPlan:
    """Return the plan of a config on two ranks: LLaMA-Factory was asked about ranks, too."""
    env = {"FORCE_TORCHRUN": "1", "NPROC_PER_NODE": "2"}
    plan = LAUNCHER.read(LaunchCommand(("llamafactory-cli", "train", config), env, str(FOLDER)))
    assert plan is not None
    return plan


@pytest.mark.parametrize("config", ASKED)
def test_what_the_parser_refuses_is_refused_and_nothing_else(config: str) -> None:
    if "refused" not in ASKED[config]:
        plan_of(config)
        return

    with pytest.raises(BadInput) as refused:
        plan_of(config)
    assert {p.id for p in refused.value.problems if p.severity == "error"} == {"PF141"}


@pytest.mark.parametrize("config", SETTLED)
def test_a_plan_agrees_with_what_the_parser_settles_on(config: str) -> None:
    theirs, plan = SETTLED[config], plan_of(config)

    if config != "templated.yaml":
        assert plan.model == theirs["model_name_or_path"]
    # Packed rows are cut one short and padded by one (PackedSupervisedDatasetProcessor).
    is_padded_by_one = theirs["packing"] and theirs["stage"] == "sft"
    assert plan.seq_len == theirs["cutoff_len"] + is_padded_by_one
    assert plan.micro_batch_size == theirs["per_device_train_batch_size"]
    assert plan.gradient_accumulation_steps == theirs["gradient_accumulation_steps"]
    evaluates = theirs["eval_strategy"] != "no" and theirs["per_device_eval_batch_size"]
    assert plan.eval_micro_batch_size == (evaluates or None)
    checkpoints = not theirs["disable_gradient_checkpointing"]
    assert (plan.activation_checkpointing == "full") == checkpoints
    if checkpoints:
        assert plan.checkpointing_reentrant == theirs["use_reentrant_gc"]
    assert (plan.offload_activations == "cpu") == theirs["use_unsloth_gc"]
    assert plan.attention == ATTENTIONS[theirs["flash_attn"]]
    assert (plan.mixed_precision == "bf16") == theirs["bf16"]
    assert (plan.mixed_precision == "fp16") == theirs["fp16"]
    assert plan.max_grad_norm == theirs["max_grad_norm"]
    if plan.optimizer != "deepspeed_cpu_adam" and plan.low_rank is None:
        assert plan.optimizer == theirs["optim"]
    assert (plan.base_quantization is not None) == (theirs["quantization_bit"] is not None)
    if plan.base_quantization is not None and plan.base_quantization.scheme == "nf4":
        assert plan.base_quantization.double_quant == theirs["double_quantization"]
    kind = theirs["finetuning_type"]
    assert (plan.adapter is not None) == (kind in ("lora", "oft"))
    if kind == "lora" and plan.adapter is not None:
        assert (plan.adapter.rank, plan.adapter.alpha) == (
            theirs["lora_rank"],
            theirs["lora_alpha"],
        )
        names = "all-linear" if theirs["lora_target"] == ["all"] else tuple(theirs["lora_target"])
        assert plan.adapter.targets == names
    if not theirs["neat_packing"]:
        assert (plan.sequence_kind == "fixed") == theirs["packing"]


def test_what_is_trained_has_the_dtype_that_the_library_gives_it() -> None:
    """In a bf16 checkpoint: whole weights are cast to fp32 unless pure_bf16, and adapters are fp32 either way."""
    assert DTYPES == {
        "full": "torch.float32",
        "full, pure_bf16": "torch.bfloat16",
        "lora": "torch.float32",
        "lora, pure_bf16": "torch.float32",
    }
    assert plan_of("full_fsdp.yaml").load_dtype == "fp32"
    assert plan_of("full_ddp_pure.yaml").load_dtype == "auto"
    adapter = plan_of("lora.yaml").adapter
    assert adapter is not None
    assert adapter.dtype is None  # PEFT's rule: fp32


def test_every_value_of_a_file_has_its_line() -> None:
    origins = plan_of("qlora.yaml").origins

    assert {name: origins[name].where for name in ("model", "adapter", "seq_len", "optimizer")} == {
        "model": "qlora.yaml:1",
        "adapter": "qlora.yaml:8",
        "optimizer": "qlora.yaml:11",
        "seq_len": "qlora.yaml:17",
    }
    assert origins["base_quantization"].where == "qlora.yaml:2"
    assert origins["activation_checkpointing"].assumed


def test_a_word_behind_the_config_is_where_it_was_said() -> None:
    plan = LAUNCHER.read(command_of(CASES["lora_overridden"], FOLDER))
    assert plan is not None

    assert plan.origins["seq_len"].where == "cutoff_len"
    assert plan.origins["world_size"].where == "llamafactory-cli"


def test_ranks_are_named_by_the_variable_that_counts_them() -> None:
    plan = LAUNCHER.read(command_of(CASES["full_zero3_two_nodes"], FOLDER))
    assert plan is not None

    assert plan.origins["world_size"].where == "$NPROC_PER_NODE"
    assert plan.origins["num_nodes"].where == "$NNODES"


def written(folder: Path, name: str, **more: Any) -> LaunchCommand:
    """Return the launch of a config as LoRA's with other arguments, on a machine without a GPU."""
    config = yaml.safe_load((FOLDER / "lora.yaml").read_text())
    (folder / name).write_text(yaml.safe_dump({**config, **more}, sort_keys=False))
    return LaunchCommand(("llamafactory-cli", "train", name), {}, str(folder))


def test_an_argument_of_another_release_is_said_and_not_refused(tmp_path: Path) -> None:
    """Asked of the wheels 0.8.0 to 0.9.4: ray_run_name is of 0.9.2 to 0.9.4, train_mm_proj_only of 0.8.0 to 0.9.1."""
    more = {"ray_run_name": "a", "train_mm_proj_only": True}
    plan = LAUNCHER.read(written(tmp_path, "older.yaml", **more))
    assert plan is not None
    said = [notice for notice in plan.notices if notice.id == "PF143"]

    assert [notice.unpriced for notice in said] == ["", ""]
    assert "0.9.2 to 0.9.4" in said[0].message

    pinned = tmp_path / "requirements.txt"
    pinned.write_text("llamafactory==0.9.5\n")
    with pytest.raises(BadInput) as refused:
        LAUNCHER.read(written(tmp_path, "older.yaml", **more))
    assert [problem.id for problem in refused.value.problems] == ["PF141", "PF141"]


def test_what_an_older_release_called_otherwise_is_read_by_its_name_since(tmp_path: Path) -> None:
    """Asked of llmtuner 0.4.0 to 0.7.0: orpo was a stage, and evaluation_strategy is of transformers before 4.51."""
    older = {"sft_packing": True, "evaluation_strategy": "steps", "per_device_eval_batch_size": 3}
    plan = LAUNCHER.read(
        written(tmp_path, "older.yaml", **older, num_layer_trainable=2, kto_ftx=0.1)
    )
    assert plan is not None
    assert (plan.sequence_kind, plan.eval_micro_batch_size) == ("fixed", 3)
    assert {notice.unpriced for notice in plan.notices if notice.id == "PF143"} == {""}
    plan = LAUNCHER.read(written(tmp_path, "orpo.yaml", stage="orpo", orpo_beta=0.1))
    assert plan is not None and plan.objective == "orpo"

    (tmp_path / "requirements.txt").write_text("llamafactory==0.9.5\n")
    with pytest.raises(BadInput) as refused:
        LAUNCHER.read(written(tmp_path, "older.yaml", **older, stage="orpo"))
    said = " ".join(problem.message for problem in refused.value.problems)
    assert "'sft_packing'" in said and "'evaluation_strategy'" in said and "'orpo'" in said


def test_ranks_that_another_machine_counts_are_open_with_deepspeed_too(tmp_path: Path) -> None:
    """The command starts torchrun where it sees several GPUs, and a login node shows none."""
    deepspeed = {"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": "auto"}
    command = written(tmp_path, "zero.yaml", deepspeed=deepspeed)
    for env in ({}, {"FORCE_TORCHRUN": "1"}):
        plan = LAUNCHER.read(replace(command, env=env))
        assert plan is not None

        assert plan.engine == "zero2"
        assert 8 in plan.origins["world_size"].may_be
    with pytest.raises(BadInput, match="needs a launcher"):
        LAUNCHER.read(replace(command, env={"CUDA_VISIBLE_DEVICES": "0"}))


def test_commands_that_do_not_train_are_no_launches() -> None:
    for argv in (("llamafactory-cli", "chat", "lora.yaml"), ("python", "src/other_train.py")):
        assert LAUNCHER.read(LaunchCommand(argv, {}, str(FOLDER))) is None


def test_the_table_has_the_arguments_of_both_libraries() -> None:
    names = set(llamafactory_arguments().arguments)

    assert {"cutoff_len", "finetuning_type", "quantization_bit", "use_reentrant_gc"} <= names
    assert {"per_device_train_batch_size", "warmup_ratio", "overwrite_output_dir"} <= names


CHECKPOINTED = {"activation_checkpointing": "full"}
NF4 = BaseQuantization("nf4", True, "bf16", "bf16", "none")
LORA = {"adapter": Adapter(rank=16, alpha=32, targets="all-linear"), "load_dtype": "auto"}
ROUND_TRIPS = [
    (
        "full_ddp_pure",
        CHECKPOINTED,
        [
            "- disable_gradient_checkpointing: true  # fast",
            "+ disable_gradient_checkpointing: false  # fast",
        ],
    ),
    (
        "lora",
        {"micro_batch_size": 2, "gradient_accumulation_steps": 16},
        [
            "- per_device_train_batch_size: 4",
            "+ per_device_train_batch_size: 2",
            "- gradient_accumulation_steps: 8",
            "+ gradient_accumulation_steps: 16",
        ],
    ),
    ("lora", {"seq_len": 1024}, ["- cutoff_len: 2048", "+ cutoff_len: 1024"]),
    (
        "full_ddp_pure",
        {"optimizer": "adamw_bnb_8bit"},
        ["- optim: adafactor", "+ optim: adamw_bnb_8bit"],
    ),
    ("lora", {"base_quantization": NF4}, ["+ quantization_bit: 4"]),
    (
        "full_ddp_pure",
        {**LORA, "base_quantization": NF4},
        [
            "- finetuning_type: full",
            "+ finetuning_type: lora",
            "+ lora_alpha: 32",
            "+ lora_dropout: 0.0",
            "+ lora_rank: 16",
            "+ lora_target: all",
            "+ quantization_bit: 4",
        ],
    ),
    (
        "full_fsdp2",
        LORA,
        [
            "- finetuning_type: full",
            "+ finetuning_type: lora",
            "+ lora_alpha: 32",
            "+ lora_dropout: 0.0",
            "+ lora_rank: 16",
            "+ lora_target: all",
        ],
    ),
    (
        "full_fsdp2",
        {"reshard_after_forward": True},
        ["-   fsdp_reshard_after_forward: false", "+   fsdp_reshard_after_forward: true"],
    ),
    (
        "full_trainer_fsdp",
        {"reshard_after_forward": True},
        ["-   reshard_after_forward: false", "+   reshard_after_forward: true"],
    ),
    (
        "full_zero3_deepspeed",
        {"micro_batch_size": 1, "gradient_accumulation_steps": 8},
        [
            "- per_device_train_batch_size: 2",
            "+ per_device_train_batch_size: 1",
            "- gradient_accumulation_steps: 4",
            "+ gradient_accumulation_steps: 8",
        ],
    ),
]


def rewritten(name: str, edits: dict[str, Any], tmp_path: Any) -> Rewritten:
    return Rewritten(tmp_path, "llamafactory", LAUNCHER.read, LAUNCHER.write, CASES[name], edits)


@pytest.mark.parametrize(("name", "edits", "lines"), ROUND_TRIPS)
def test_an_edit_is_written_where_the_value_stands(name, edits, lines, tmp_path) -> None:
    result = rewritten(name, edits, tmp_path)

    assert result.differing == ()
    assert sorted(result.changed_lines) == sorted(lines)
    (file,) = result.rewrite.files
    assert (result.folder / file.path).read_text() == file.before


def test_words_behind_the_config_are_changed_where_they_stand(tmp_path) -> None:
    edits = {"micro_batch_size": 1, "gradient_accumulation_steps": 16, **CHECKPOINTED}
    result = rewritten("lora_overridden", edits, tmp_path)

    assert result.differing == ()
    assert result.rewrite.argv == (
        "llamafactory-cli",
        "train",
        ".preflight/lora.yaml",
        "per_device_train_batch_size=1",
        "cutoff_len=4096",
        "disable_gradient_checkpointing=false",
        "learning_rate=1e-5",
    )


def test_flags_are_changed_and_added_where_there_is_no_file(tmp_path) -> None:
    edits = {"micro_batch_size": 2, "gradient_accumulation_steps": 2, "base_quantization": NF4}
    result = rewritten("lora_flags", edits, tmp_path)

    assert result.differing == ()
    assert result.rewrite.files == ()
    words = " ".join(result.rewrite.argv)
    assert "--per_device_train_batch_size 2" in words
    assert "--gradient_accumulation_steps 2" in words
    assert "--quantization_bit 4" in words


def test_expandable_segments_are_a_variable_where_no_launcher_of_its_own_sets_them(
    tmp_path,
) -> None:
    result = rewritten("lora", {"expandable_segments": True}, tmp_path)

    assert result.differing == ()
    ((name, value),) = result.rewrite.env.items()
    assert value == "expandable_segments:True"
    assert name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # as torch's release has it


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("full_ddp_pure", {"expandable_segments": False}),
        ("full_ddp_pure", {**LORA, "load_dtype": "bf16"}),
        ("full_zero2", {"optimizer": "adamw_bnb_8bit"}),
        ("lora", {"loss": "chunked_ce"}),
        ("lora", {"adapter": None}),
        ("qlora", {"base_quantization": None}),
        ("full_zero3", {"engine": "fsdp2"}),
    ],
)
def test_what_its_arguments_cannot_say_is_not_written(name, edits, tmp_path) -> None:
    assert rewritten(name, edits, tmp_path).rewrite is None


def unpriced_of(tmp_path, *words: str) -> list[str]:
    argv = (
        "llamafactory-cli", "train", "--stage", "dpo", "--do_train", "--dataset", "pairs", "--template", "qwen",
        "--model_name_or_path", "Qwen/Qwen2.5-0.5B", "--output_dir", "out", "--bf16", *words,
    )  # fmt: skip
    report = preflight.check(argv, device="b200-sxm-180", cwd=tmp_path, env=dict(ALONE))
    return [
        *(notice.unpriced for notice in report.plan.notices if notice.unpriced),
        *report.verdict.missing,
    ]


def test_a_config_that_only_predicts_is_not_said_to_fit(tmp_path) -> None:
    missing = unpriced_of(tmp_path, "--finetuning_type", "lora", "--do_train", "false")

    assert "a launch that does not train" in missing


ALONE = {"CUDA_VISIBLE_DEVICES": "0"}
PAIRS = {
    "a second copy": (("--finetuning_type", "full"), []),
    "its adapter off": (("--finetuning_type", "lora"), []),
    "no reference": (("--finetuning_type", "full", "--pref_loss", "simpo"), []),
    "itself, by name": (("--finetuning_type", "lora", "--ref_model", "Qwen/Qwen2.5-0.5B"), []),
    "another model": (
        ("--finetuning_type", "lora", "--ref_model", "Qwen/Qwen2.5-1.5B"),
        ["a formula for a reference model of another size"],
    ),
    "rows and others": (("--stage", "kto", "--finetuning_type", "lora"), []),
    "rows and others, and another model": (
        ("--stage", "kto", "--finetuning_type", "lora", "--ref_model", "Qwen/Qwen2.5-1.5B"),
        ["a formula for a reference model of another size"],
    ),
    "a value beside the head": (("--stage", "rm", "--finetuning_type", "full"), []),
    "generation": (
        ("--stage", "ppo", "--finetuning_type", "lora", "--reward_model", "some/reward"),
        ["generation, and the models that score"],
    ),
}


@pytest.mark.parametrize("words, named", PAIRS.values(), ids=PAIRS)
def test_answers_are_priced_but_for_models_of_another_size_and_what_generates(
    tmp_path, words, named
):
    assert unpriced_of(tmp_path, *words) == named


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({}, set()),
        ({"use_dft_loss": True}, {"a loss of its own"}),
        ({"use_eaft_loss": True}, {"a loss of its own"}),
        ({"upcast_layernorm": True}, {"norms in fp32"}),
    ],
)
def test_what_an_argument_changes_and_the_plan_cannot_hold_is_named(
    tmp_path: Path, more: dict[str, Any], named: set[str]
) -> None:
    plan = LAUNCHER.read(written(tmp_path, "more.yaml", **more))
    assert plan is not None

    assert {notice.unpriced for notice in plan.notices} - {""} == named


@pytest.mark.parametrize("name", ["use_galore", "use_apollo", "use_adam_mini", "use_muon"])
def test_an_optimizer_that_it_makes_itself_is_not_written_over(name, tmp_path):
    """`optim: adamw_torch_fused` beside use_apollo stops the launch: Unknown optim (train/trainer_utils.py, 0.9.5)."""
    config = {
        "stage": "sft", "do_train": True, "dataset": "d", "template": "qwen", "output_dir": "out",
        "model_name_or_path": "Qwen/Qwen2.5-0.5B", "finetuning_type": "full", name: True,
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(
        "".join(f"{key}: {value}\n" for key, value in config.items())
    )
    command = LaunchCommand(("llamafactory-cli", "train", "own.yaml"), dict(ALONE), str(tmp_path))
    plan = LAUNCHER.read(command)
    assert plan is not None

    assert LAUNCHER.write(plan, plan.with_edits({"optimizer": "adamw_bnb_8bit"})) is None
    assert LAUNCHER.write(plan, plan.with_edits({"seq_len": 512})) is not None

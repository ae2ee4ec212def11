"""NeMo Automodel's recipes, held against what its own loader, strategy, scheduler and matcher make of them.

nemo-automodel is not installed for the tests: its answers are kept in tests/configs/automodel/asked.json, written by
ask_automodel.py from the wheel of 0.7.0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from framework_launches import CONFIGS, cases_of, plan_of_case, plan_of_words

import preflight
from preflight.errors import BadInput
from preflight.launch import LaunchPlan
from preflight.launchers.automodel import LAUNCHER
from preflight.launchers.automodel.plan import DTYPES
from preflight.unpriced_names import AUTOMODEL
from preflight.verdict import Answer

FOLDER = CONFIGS / "automodel"
CASES = cases_of("automodel")
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())
LOSSES = {"MaskedCrossEntropy": "full_logits", "FusedLinearCrossEntropy": "fused_linear"}
CHECKPOINTS = {True: "full", False: "none", "selective": "selective_op"}


def read(words: str, folder: Path = FOLDER, **env: str) -> LaunchPlan | None:
    return plan_of_words(LAUNCHER.read, words, folder, env)


def of_case(name: str) -> LaunchPlan:
    return plan_of_case(LAUNCHER.read, CASES[name], FOLDER)


@pytest.mark.parametrize("name", CASES)
def test_model_batch_and_length_are_what_automodel_makes_of_them(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)

    assert plan.model == theirs["model"]
    assert plan.micro_batch_size == theirs["rows"]
    assert plan.gradient_accumulation_steps == theirs["steps"]
    assert plan.seq_len == (theirs["packs"] or theirs["length"])
    assert plan.sequence_kind == ("packed" if theirs["packs"] else "padded")
    assert plan.loss == LOSSES[theirs["loss"]]
    is_fused = plan.optimizer == "adamw_torch_fused"
    assert (theirs["optimizer"] == "AdamW") == is_fused  # as the files have it


@pytest.mark.parametrize("name", CASES)
def test_the_mesh_and_its_policy_are_what_automodel_makes_of_them(name: str) -> None:
    theirs, plan = ASKED[name], of_case(name)
    assert theirs["strategy"] == "FSDP2Config" and theirs["reduces"] == "torch.float32"

    assert plan.activation_checkpointing == CHECKPOINTS[theirs["checkpoints"]]
    assert plan.tensor_parallel_degree == theirs["tp"]
    assert plan.context_parallel_degree == theirs["cp"]
    assert plan.load_dtype == DTYPES[theirs["stores"] or "bf16"] == plan.master_dtype
    if plan.world_size == 1:
        # FSDP2Manager.parallelize wraps nothing there, and so casts nothing.
        assert (plan.engine, plan.mixed_precision) == ("single", "no")
        return
    assert plan.engine == "fsdp2"
    assert (plan.shard_degree, plan.replicate_degree) == (theirs["shards"], theirs["copies"])
    assert plan.mixed_precision == DTYPES[theirs["computes"]] and plan.reduce_dtype == "fp32"
    assert plan.sync_each_batch == (not theirs["defers"])
    reshards = "default" if theirs["reshards"] is None else theirs["reshards"]
    assert plan.reshard_after_forward == reshards


@pytest.mark.parametrize("name", CASES)
def test_an_adapter_is_on_the_modules_that_its_matcher_takes(name: str) -> None:
    theirs, plan = ASKED[name]["adapter"], of_case(name)

    assert (plan.adapter is None) == (theirs is None)
    if plan.adapter is not None:
        assert plan.adapter.rank == theirs["rank"] and plan.adapter.alpha == theirs["alpha"]
        assert plan.adapter.dropout == theirs["dropout"]
        is_all = plan.adapter.targets == "all-linear"
        assert is_all == (len(theirs["modules"]) == 7)
        assert is_all or list(plan.adapter.targets or ()) == theirs["modules"]


@pytest.mark.parametrize(
    ("patterns", "targets"),
    [
        ("*_proj", {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}),
        ("[*.q_proj,*.layers.3.*.o_proj]", None),
        ("*experts*", None),
    ],
)
def test_what_patterns_are_no_endings_of_names_adapt_is_not_priced(patterns, targets) -> None:
    plan = read(f"automodel lora.yaml --nproc-per-node 8 --peft.target_modules {patterns}")
    assert plan is not None and plan.adapter is not None

    unpriced = {notice.unpriced for notice in plan.notices}
    if targets is not None:
        assert set(plan.adapter.targets or ()) == targets
    elif "experts" in patterns:
        assert plan.adapter.targets == "all-linear" and "which modules are adapted" in unpriced


def check(words: str, device: str) -> preflight.Report:
    return preflight.check(words.split(), device=device, cwd=FOLDER, env={})


def test_a_launch_fits_where_the_most_of_it_does_and_weights_and_states_alone_refuse() -> None:
    """What its own layers keep is bounded; what FSDP2 keeps of every parameter is there whatever they do."""
    small = check("automodel full.yaml --nproc-per-node 8", "H100:4")
    large = check("automodel full.yaml --nproc-per-node 8", "h200-sxm-141")

    assert small.verdict.answer is Answer.DOES_NOT_FIT
    assert large.verdict.answer is Answer.FITS


UNBOUNDED = {
    "--model.pretrained_model_name_or_path Qwen/Qwen3-30B-A3B": AUTOMODEL,  # a class of its own that nobody counted
    "--distributed.cp_size 2": AUTOMODEL,
    "--packed_sequence.packed_sequence_size 4096": AUTOMODEL,
    "--distributed.enable_compile true": AUTOMODEL,
    "--neftune.noise_alpha 5": "neftune of a recipe",
    "--distributed.enable_async_tensor_parallel true": "distributed of a recipe",
    "--validation_dataloader.batch_size 64": "rows of the validation",
    "--validation_dataset._target_ make_squad_dataset": "rows of the validation",
    "--validation_dataset._target_ a.Mock --validation_dataset.seq_len 65536": "rows of the validation",
    "--dataset.batch_size 64": "rows of a batch",
    "--distributed.mp_policy.output_dtype float32": "the dtype between layers",
}


@pytest.mark.parametrize("more", UNBOUNDED)
def test_what_nobody_counted_is_named_and_not_said_to_fit(more: str) -> None:
    report = check(f"automodel full.yaml --nproc-per-node 8 {more}", "b300-sxm-270")

    assert report.verdict.answer is Answer.UNKNOWN
    assert UNBOUNDED[more] in report.verdict.unpriced


def test_rows_are_cut_where_truncation_is_on() -> None:
    """A length alone cuts nothing (components/datasets/llm/squad.py and its kin, 0.7.0)."""
    squad = "automodel full.yaml --dataset.seq_len none --dataset.seq_length 1024"
    uncut, cut = read(squad), read(f"{squad} --dataset.truncation longest_first")

    assert uncut is not None and uncut.seq_len is None
    assert cut is not None and cut.seq_len == 1024
    padded = read(
        f"{squad} --dataset.truncation true --dataloader.collate_fn.pad_seq_len_divisible 768"
    )
    assert padded is not None and padded.seq_len == 1536


def test_weights_without_a_dtype_are_trained_as_they_are_stored_and_fp32_at_most() -> None:
    """A 16-bit checkpoint is surely one; of another the most counts."""
    stored = check(
        "automodel full.yaml --nproc-per-node 8 --model.torch_dtype auto", "h200-sxm-141"
    )
    wide = "--model.pretrained_model_name_or_path openai-community/gpt2-xl --dataset.seq_len 1024"
    unsure = check(
        f"automodel full.yaml --nproc-per-node 1 --model.torch_dtype auto {wide}", "h100-sxm-80"
    )

    assert stored.verdict.answer is Answer.FITS
    assert unsure.verdict.answer is Answer.FITS


def test_a_number_of_ranks_that_nobody_said_refuses_nothing() -> None:
    report = check("automodel full.yaml", "rtx4090-24")

    assert report.verdict.answer is Answer.UNKNOWN
    assert report.readings is not None and "world_size" in report.readings.may_be
    assert any(finding.id == "PF115" for finding in report.findings)


def test_a_dtype_that_automodel_does_not_know_is_said() -> None:
    """dtype_from_str of 0.7.0 raises KeyError for it."""
    plan = read("automodel full.yaml --nproc-per-node 8 --model.torch_dtype fp32")
    assert plan is not None

    assert [notice.id for notice in plan.notices if notice.id != "PF143"] == ["PF141"]


def test_other_recipes_are_named_and_other_programs_of_the_name_are_left_alone(tmp_path) -> None:
    (tmp_path / "vlm.yaml").write_text("recipe: FinetuneRecipeForVLM\nmodel: {}\n")
    (tmp_path / "am.yaml").write_text("alerts: [a]\n")
    vlm = read("automodel vlm.yaml --nproc-per-node 8", tmp_path)
    assert vlm is not None

    assert "FinetuneRecipeForVLM is not read" in vlm.notices[0].message
    assert read("am am.yaml", tmp_path) is None


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="nowhere"):
        read("automodel nowhere.yaml --nproc-per-node 8")

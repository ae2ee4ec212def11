"""What the reader makes of `tune run`, over configs written afresh, and a remedy written back to its command line."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import preflight
from preflight.errors import BadInput
from preflight.formulas.sharding import held_tensors
from preflight.launch import LaunchCommand, LaunchPlan, Vision
from preflight.launchers.torchtune import LAUNCHER
from preflight.launchers.torchtune.table import builders, config_values, recipes
from preflight.models import describe
from preflight.models.registry import find_model

CONFIGS = Path(__file__).parent.parent / "configs"
CASES: dict[str, dict[str, Any]] = yaml.safe_load((CONFIGS / "torchtune/manifest.yaml").read_text())
READ = [name for name, case in CASES.items() if "refused" not in case]


def command(line: str, env: Mapping[str, str] | None = None) -> LaunchCommand:
    return LaunchCommand(
        tuple(shlex.split(line)), {"HOME": "/nonexistent", **(env or {})}, str(CONFIGS)
    )


def read(line: str, env: Mapping[str, str] | None = None) -> LaunchPlan:
    plan = LAUNCHER.read(command(line, env))
    assert plan is not None
    return plan


@pytest.mark.parametrize("name", READ)
def test_a_config_is_read_as_its_recipe_takes_it(name):
    case = CASES[name]
    plan = read(case["argv"], case.get("env"))
    for field, wanted in case["plan"].items():
        found = getattr(plan, field)
        if isinstance(wanted, dict):
            found = {key: asdict(found)[key] for key in wanted}
            wanted = {k: tuple(v) if isinstance(v, list) else v for k, v in wanted.items()}

        assert found == wanted, field
    assert sorted(n.id for n in plan.notices) == case.get("notices", [])
    assert plan.trainer == "torchtune"


@pytest.mark.parametrize("name", [name for name in CASES if name not in READ])
def test_what_the_recipe_refuses_is_refused_with_a_place_and_a_fix(name):
    with pytest.raises(BadInput) as error:
        read(CASES[name]["argv"])

    assert sorted(p.id for p in error.value.problems if p.severity == "error") == sorted(
        CASES[name]["refused"]
    )
    assert all(p.where for p in error.value.problems)
    assert [p for p in error.value.problems if p.severity == "error" and not p.fix] == []


def test_a_misspelt_key_is_named_with_its_line_and_the_nearest_one():
    notices = {n.fix: n.where for n in read(CASES["misspelt"]["argv"]).notices}

    assert notices == {
        "did you mean enable_activation_checkpointing": "torchtune/misspelt.yaml:38",
        "did you mean gradient_accumulation_steps": "torchtune/misspelt.yaml:22",
    }


def test_a_misspelt_argument_and_config_get_their_nearest_name():
    with pytest.raises(BadInput) as argument:
        read(CASES["bad_lora_argument"]["argv"])
    with pytest.raises(BadInput) as config:
        read(CASES["misspelt_config"]["argv"])

    assert "lora_dropout" in argument.value.problems[0].fix
    assert argument.value.problems[0].where.startswith("torchtune/bad_lora_argument.yaml:")
    assert "llama3_1/8B_lora_single_device" in config.value.problems[0].fix


def test_commands_that_train_nothing_are_left_alone():
    for line in ("tune ls", "tune run generate --config generation", "tune download x"):
        assert LAUNCHER.read(command(line)) is None


EDITS: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("full_8b", {"micro_batch_size": 1, "gradient_accumulation_steps": 8}, ("batch_size=1",)),
    ("full_8b", {"seq_len": 4096}, ("tokenizer.max_seq_len=4096",)),
    ("full_8b", {"reshard_after_forward": False}, ("fsdp_reshard_after_forward=False",)),
    ("full_8b", {"activation_checkpointing": "none"}, ("enable_activation_checkpointing=False",)),
    ("full_8b", {"activation_checkpointing": "selective_every_2"}, ("ac_mode=selective",)),
    ("selective", {"activation_checkpointing": "full"}, ("ac_mode=null",)),
    ("full_8b_overridden", {"micro_batch_size": 4}, ("batch_size=4",)),
    ("builtin_70b", {"micro_batch_size": 1, "seq_len": 1024}, ("tokenizer.max_seq_len=1024",)),
    ("lora_qwen", {"optimizer": "paged_adamw_8bit"}, ()),
    (
        "lora_qwen",
        {"optimizer": "adamw_torch_fused", "torch_compile": True},
        ("optimizer.fused=True",),
    ),
    ("lora_qwen", {"activation_checkpointing": "full", "offload_activations": "cpu"}, ()),
    ("lora_qwen", {"base_quantization": "nf4"}, ("model.quantize_base=True",)),
    ("dpo", {"micro_batch_size": 2}, ("batch_size=2",)),
    ("full_8b", {"expandable_segments": True}, ()),
)


@pytest.mark.parametrize(("name", "edits", "words"), EDITS)
def test_what_is_written_reads_as_the_edited_plan(name, edits, words):
    before = read(CASES[name]["argv"])
    if edits.get("base_quantization") == "nf4":
        quantized = read(CASES["qlora_8b"]["argv"]).base_quantization
        edits = {"base_quantization": quantized}
    after = before.with_edits(edits)
    rewrite = LAUNCHER.write(before=before, after=after)
    assert rewrite is not None
    again = read(shlex.join(rewrite.argv), rewrite.env)

    assert again == after
    assert rewrite.files == ()
    assert set(words) <= set(rewrite.argv)


@pytest.mark.parametrize(
    ("name", "edits"),
    [
        ("full_8b", {"optimizer": "paged_adamw_8bit"}),
        ("full_8b", {"offload_params": "cpu"}),
        ("lora_qwen", {"reshard_after_forward": True}),
        ("qlora_8b", {"base_quantization": None}),
    ],
)
def test_what_torchtune_cannot_say_is_not_written(name, edits):
    before = read(CASES[name]["argv"])

    assert LAUNCHER.write(before=before, after=before.with_edits(edits)) is None


def test_every_builder_of_the_table_names_a_model_that_is_known():
    known = {entry["model"] for entry in builders().values() if "model" in entry}

    assert len(known) > 30
    assert [name for name in known if find_model(name) is None] == []


def test_every_builtin_config_is_read_under_its_own_recipe_without_an_error():
    total = 0
    for recipe, entry in recipes().items():
        ranks = "--nproc_per_node 2 " if entry["distributed"] else ""
        for name, path in entry["configs"].items():
            plan = read(f"tune run {ranks}{recipe} --config {name}")
            total += 1

            assert plan.micro_batch_size, name
            assert (plan.adapter is None) == ("lora_attn_modules" not in str(config_values(path)))

    assert total == 138


CHECKOUT = {
    "torchtune/__init__.py": "",
    "recipes/__init__.py": "",
    "recipes/full_finetune_distributed.py": "self.log = get_logger(cfg.log_level)\n",
    "recipes/own_recipe.py": "cfg.batch_size\n",
    "recipes/configs/llama3_1/8B_full.yaml": "batch_size: 7\nlog_level: INFO\nstray_key: 1\n"
    "model: {_component_: torchtune.models.llama3_1.llama3_1_8b}\n"
    "tokenizer: {max_seq_len: 2048}\n",
    "recipes/configs/llama9/2B_full.yaml": "batch_size: 3\n"
    "model: {_component_: torchtune.models.llama3_1.llama3_1_8b}\n"
    "tokenizer: {max_seq_len: 4096}\n",
}


def in_checkout(tmp_path, line, folder="."):
    for name, text in CHECKOUT.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    argv = tuple(shlex.split(line))
    plan = LAUNCHER.read(LaunchCommand(argv, {}, str(tmp_path / folder)))
    assert plan is not None
    return plan


@pytest.mark.parametrize("folder", [".", "recipes", "recipes/configs/llama9"])
def test_a_config_is_read_from_the_checkout_that_the_launch_starts_in(tmp_path, folder):
    """`pip install -e .` runs the checkout: what it has is newer than any table, and may differ from it."""
    line = "tune run --nproc_per_node 4 full_finetune_distributed --config llama9/2B_full"
    plan = in_checkout(tmp_path, line, folder)
    table = in_checkout(tmp_path, line.replace("llama9/2B", "llama3_1/8B"), folder)

    assert (plan.micro_batch_size, plan.seq_len, plan.model) == (
        3,
        4096,
        "meta-llama/Llama-3.1-8B",
    )
    assert table.micro_batch_size == 7
    assert plan.origins["micro_batch_size"].where.endswith("recipes/configs/llama9/2B_full.yaml:1")


def test_a_recipe_of_the_checkout_reads_what_stands_in_it(tmp_path):
    line = "tune run --nproc_per_node 4 full_finetune_distributed --config llama3_1/8B_full"
    plan = in_checkout(tmp_path, line)
    said = [n.message for n in plan.notices if n.id == "PF140"]

    assert said == ["full_finetune_distributed does not read stray_key: it has no effect"]


def test_a_config_of_another_release_is_unknown_and_a_slip_of_the_pen_is_refused(tmp_path):
    line = "tune run --nproc_per_node 2 full_finetune_distributed --config"
    argv = tuple(shlex.split(f"{line} llama9/2B_full"))
    plan = LAUNCHER.read(LaunchCommand(argv, {}, str(tmp_path)))
    assert plan is not None
    (said,) = [n for n in plan.notices if n.unpriced]

    assert said.severity == "warning" and "llama9/2B_full" in said.message
    assert "did you mean" not in said.fix
    with pytest.raises(BadInput, match="did you mean llama3_1/8B_full"):
        read(f"{line} llama3_1/8B_ful")
    with pytest.raises(BadInput, match="neither a file here nor a config"):
        in_checkout(tmp_path, f"{line} llama9/3B_full")


@pytest.mark.parametrize(("chunks", "parts"), [("", 8), (" loss.num_output_chunks=1", 1)])
def test_a_loss_is_taken_in_as_many_parts_as_the_config_says(chunks, parts):
    line = "tune run --nproc_per_node 4 full_finetune_distributed --config llama3_1/8B_full"
    report = preflight.check(f"{line} tokenizer.max_seq_len=2048{chunks}".split(), device="h100")
    assert report.estimate is not None
    formulas = [t.formula for t in report.estimate.terms if t.name == "logits and chunked loss"]
    entries = 2 * 2048 * 128_256

    assert formulas == [f"{entries:,} x 6 + 4 x {entries // parts:,}"]


@pytest.mark.parametrize(
    ("recipe", "words", "rows"),
    [
        ("cfg.get('run_val_every_n_steps')", "run_val_every_n_steps=10 batch_size_val=32", 32),
        ("cfg.get('run_val_every_n_steps')", "run_val_every_n_steps=10", 7),
        ("cfg.get('run_val_every_n_steps')", "batch_size_val=32", None),
        ("cfg.batch_size", "run_val_every_n_steps=10 batch_size_val=32", None),
    ],
)
def test_rows_of_a_validation_are_read_where_the_recipe_has_one(tmp_path, recipe, words, rows):
    line = "tune run --nproc_per_node 4 full_finetune_distributed --config llama3_1/8B_full"
    name = "recipes/full_finetune_distributed.py"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CHECKOUT, name, f"{recipe}\ncfg.get('batch_size_val')\n")
        plan = in_checkout(tmp_path, f"{line} {words}")

    assert plan.eval_micro_batch_size == rows


COUNTED_BY_TORCHTUNE = {"vision_full": 2_598_922_787, "vision_lora": 11_468_800}
"""Parameters that train, as `llama3_2_vision_11b()` and `lora_llama3_2_vision_11b(...)` made them on the meta device
(torchtune 0.6.1, 2026-12-01)."""
FEWER_IN_TABLES = 41_036_800
"""torchtune's tables of positions have a row for each of 16 places of a tile (models/clip/_position_embeddings.py, 0.6.1),
transformers' nine rows of four tiles each."""


@pytest.mark.parametrize("name", COUNTED_BY_TORCHTUNE)
def test_as_many_parameters_of_a_model_that_sees_train_as_torchtune_says(name):
    plan = replace(read(CASES[name]["argv"]), vision=Vision(("decoder",), None, 1))
    entry = find_model("meta-llama/Llama-3.2-11B-Vision")
    model = describe(entry.config, entry.id, "registry", entry.num_params)
    held = held_tensors(plan, model)
    mine = sum(each.count * each.tensor.num_params for each in held if each.trains)
    tables = FEWER_IN_TABLES - 8 * model.hidden_size if plan.adapter is None else 0

    assert mine == COUNTED_BY_TORCHTUNE[name] + tables


@pytest.mark.parametrize(
    ("key", "left_out"),
    [
        ("context_parallel_dim=2", [("a sequence that is divided over ranks", "less")]),
        ("data_parallel_shard_dim=4", [("ranks that hold what others do", "more")]),
        ("data_parallel_replicate_dim=2", [("ranks that hold what others do", "more")]),
        ("enable_fp8_training=True", [("float8 linear layers", "either")]),
        ("context_parallel_dim=1", []),
        ("data_parallel_shard_dim=-1", []),
        ("enable_fp8_training=False", []),
    ],
)
def test_what_only_its_main_branch_reads_is_named(key, left_out):
    """Releases ignore these, and what trains with them is no release: a shard of 8 ranks was taken for one of 4."""
    plan = read(
        f"tune run --nproc_per_node 8 full_finetune_distributed --config llama3_1/8B_full {key}"
    )

    assert [(n.unpriced, n.takes) for n in plan.notices if n.unpriced] == left_out

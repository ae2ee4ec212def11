"""What the reader makes of litgpt's commands is what litgpt's own parser settles on, and what its measured runs were.

`asked.json` holds the answers of the real parser, asked by `ask_litgpt.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from framework_launches import CONFIGS, cases_of, command_of

import preflight
from preflight.launch import LaunchCommand, LaunchPlan
from preflight.launchers.litgpt import LAUNCHER
from preflight.launchers.litgpt.engine import PRECISIONS
from preflight.launchers.litgpt.table import litgpt_table, options_of
from preflight.launchers.litgpt.words import FREE, read_words
from preflight.plan_choices import CHOICES
from preflight.plugins import load_plugins
from preflight.rewriting import read_launch
from preflight.verdict import Answer

FOLDER = CONFIGS / "litgpt"
CASES = cases_of("litgpt")
REFUSED = {name: case for name, case in CASES.items() if "refused" in case}
ASKED: dict[str, dict[str, Any]] = json.loads((FOLDER / "asked.json").read_text())


def read(argv: str, folder: Path = FOLDER, **env: str) -> LaunchPlan:
    plan = LAUNCHER.read(LaunchCommand(tuple(argv.split()), env, str(folder)))
    assert plan is not None
    return plan


@pytest.mark.parametrize("name", [name for name in ASKED if "refused" not in ASKED[name]])
def test_every_option_has_the_value_that_litgpts_parser_settles_on(name: str) -> None:
    command = command_of(CASES[name], FOLDER)
    first = LAUNCHER.first_argument(command.argv)
    assert first is not None
    reading = read_words(command, first)
    words, options = reading.value, options_of(reading.value.command)
    said = {key: setting.value for key, setting in words.given.items()}

    assert not reading.problems
    assert of_litgpt({**options, **said}) == of_litgpt({**options, **ASKED[name]})


def of_litgpt(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that litgpt itself declares; of the classes behind the others the answers have the name alone."""
    return {key: value for key, value in values.items() if key.partition(".")[0] not in FREE}


@pytest.mark.parametrize("name", [name for name in ASKED if "refused" in ASKED[name]])
def test_what_litgpts_parser_refuses_is_refused(name: str) -> None:
    assert name in REFUSED


@pytest.mark.parametrize(
    ("config", "subcommand", "run"),
    [
        ("lora.yaml", "finetune_lora", "litgpt_hub-041"),
        ("full.yaml", "finetune_full", "litgpt_hub-037"),
    ],
)
def test_a_launch_of_litgpts_own_table_is_the_plan_that_was_measured(config, subcommand, run):
    """The files have the values of config_hub/finetune/tiny-llama/lora.yaml and stablelm-base-alpha-3b/full.yaml."""
    text = (CONFIGS.parent / "measured" / "runs-dev.yaml").read_text()
    runs = yaml.load(text, yaml.CSafeLoader)["runs"]
    measured = next(each["plan"] for each in runs if each["id"] == run)
    plan = read(f"litgpt {subcommand} --config {config}").to_dict()
    # Which pieces the loss is taken in, and which names a family's layers have, was written down by hand.
    left = {"loss", "trainer", "offload_params", "offload_optimizer", "optimizer_state_dtype"}
    adapter = measured.get("adapter") or {}

    assert {k: plan[k] for k in measured if k not in {*left, "adapter"}} == {
        k: v for k, v in measured.items() if k not in {*left, "adapter"}
    }
    if adapter:
        assert set(adapter["targets"]) <= set(plan["adapter"]["targets"])
        shared = ("kind", "rank", "alpha", "dropout", "dtype")
        assert [plan["adapter"][k] for k in shared] == [adapter[k] for k in shared]


def test_every_value_has_its_line_or_its_flag():
    origins = read("litgpt finetune_lora --config lora.yaml --train.micro_batch_size 4").origins

    assert {
        name: origins[name].where for name in ("model", "seq_len", "load_dtype", "optimizer")
    } == {
        "model": "lora.yaml:2",
        "load_dtype": "lora.yaml:3",
        "seq_len": "lora.yaml:26",
        "optimizer": "lora.yaml:27",
    }
    assert origins["micro_batch_size"].where == "--train.micro_batch_size"
    assert origins["attention"].where == "default of litgpt 0.5.13"


def test_a_model_is_named_by_its_folder_or_by_the_config_in_it(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model_config.yaml").write_text("hf_config:\n  name: phi-2\n  org: microsoft\n")

    assert read("litgpt finetune_lora mine", tmp_path).model == "microsoft/phi-2"
    assert (
        read("litgpt finetune_lora /data/checkpoints/google/gemma-2b/").model == "google/gemma-2b"
    )
    assert read("litgpt finetune_lora ./elsewhere").model == "./elsewhere"


def test_the_old_flag_of_the_checkpoint_is_taken_with_a_warning():
    """litgpt may be older where it is not installed here: before 0.4 it was a flag."""
    plan = read("litgpt finetune_lora --checkpoint_dir google/gemma-2b --train.max_seq_length 8")

    assert plan.model == "google/gemma-2b"
    assert [(each.id, each.severity) for each in plan.notices] == [("PF141", "warning")]


def test_every_device_is_counted_where_it_is_known_and_assumed_where_not():
    known = read("litgpt pretrain pythia-14m", CUDA_VISIBLE_DEVICES="0,1")

    assert (known.world_size, known.engine) == (2, "fsdp1")
    assert known.origins["world_size"].where == "$CUDA_VISIBLE_DEVICES"
    assert read("litgpt pretrain pythia-14m").origins["world_size"].assumed


@pytest.mark.parametrize("command", LAUNCHER.trains_nothing)
def test_a_command_that_does_not_train_is_nobodys(command):
    assert read_launch(LaunchCommand(("litgpt", command, "x/y")), load_plugins()) is None


def test_every_value_of_the_tables_is_one_of_a_plan():
    dtypes = {dtype for dtype, _ in PRECISIONS.values()}

    assert dtypes <= set(CHOICES["load_dtype"])
    assert {mixed for _, mixed in PRECISIONS.values()} <= set(CHOICES["mixed_precision"])


def test_the_table_is_of_one_release_and_has_the_training_commands():
    table = litgpt_table()

    assert table["version"] == "0.5.13"
    assert set(table["commands"]) == set(LAUNCHER.subcommands) - {"finetune"}


@pytest.mark.parametrize(
    ("more", "pinned", "answer"),
    [
        ("", "", "fits"),
        ("--quantize bnb.nf4", "0.5.13", "fits"),
        ("--quantize bnb.nf4", "0.4.13", "fits"),
        ("--quantize bnb.nf4", "", "unknown"),
        ("--quantize bnb.int8-training --precision 16-true", "0.5.13", "unknown"),
    ],
)
def test_a_packed_base_fits_for_sure_where_its_release_is_said(more, pinned, answer, tmp_path):
    """Before 0.5.5 litgpt asks for a bitsandbytes whose layers keep what they read."""
    argv = "litgpt finetune_lora meta-llama/Llama-2-7b-hf --train.max_seq_length 512"
    argv += f" {more}" if "precision" in more else f" --precision bf16-true {more}"
    if pinned:
        (tmp_path / "requirements.txt").write_text(f"litgpt=={pinned}\n")

    report = preflight.check(argv.split(), device="h100-sxm-80", cwd=tmp_path, env={})

    assert report.verdict.answer.value == answer


def test_a_number_of_ranks_that_nobody_said_refuses_nothing():
    """`--devices auto` counts the GPUs of the machine that starts it; the one that checks may have none."""
    words = "litgpt pretrain meta-llama/Llama-2-13b-hf --tokenizer_dir t --train.micro_batch_size 1"
    words += " --train.max_seq_length 1024"
    unsaid = preflight.check(words.split(), device="h100-sxm-80", env={})
    one = preflight.check(f"{words} --devices 1".split(), device="h100-sxm-80", env={})

    assert one.verdict.answer is Answer.DOES_NOT_FIT
    assert unsaid.verdict.answer is Answer.UNKNOWN
    assert unsaid.readings is not None and "world_size" in unsaid.readings.may_be


@pytest.mark.parametrize("words", ["pretrain --help", "finetune_lora -h", "pretrain list"])
def test_what_only_tells_is_no_launch(words):
    assert LAUNCHER.read(LaunchCommand(("litgpt", *words.split()), {})) is None

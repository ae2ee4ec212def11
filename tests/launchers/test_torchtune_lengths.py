"""torchtune cuts rows only where tokenizer.max_seq_len says so: without it the model's own builder bounds them."""

from __future__ import annotations

import shlex

import pytest

from preflight.launch import LaunchCommand
from preflight.launchers.torchtune import LAUNCHER
from preflight.launchers.torchtune.table import builders, config_values, longest_row_of
from preflight.models.registry import find_model
from preflight.open_values import open_values
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.request import Request
from preflight.verdict import Answer

LORA = "tune run lora_finetune_single_device --config llama2/7B_lora_single_device"
FULL = "tune run --nproc_per_node 4 full_finetune_distributed --config llama3_1/8B_full"

OTHER_ROWS = f"{FULL} dataset._component_=torchtune.datasets.samsum_dataset"
MOST_OF_A_MODEL = 131_072


def command_of(line, folder) -> LaunchCommand:
    return LaunchCommand(tuple(shlex.split(line)), {}, str(folder))


def read(line, folder):
    plan = LAUNCHER.read(command_of(line, folder))
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("line", "may_be"),
    [(LORA, (1, 4096)), (OTHER_ROWS, (1, MOST_OF_A_MODEL)), (f"{LORA} dataset.packed=False", (1, 4096))],
)  # fmt: skip
def test_a_length_that_nothing_cuts_is_open_up_to_what_the_builder_takes(line, may_be, tmp_path):
    plan = read(line, tmp_path)

    assert plan.seq_len is None
    assert open_values(plan)["seq_len"] == may_be


@pytest.mark.parametrize(
    "word",
    ["tokenizer.max_seq_len=512", "tokenizer.max_seq_len=$LENGTH", "model._component_=mine.model"],
)
def test_a_length_that_is_said_or_that_another_program_fills_in_is_not_open(word, tmp_path):
    assert "seq_len" not in open_values(read(f"{LORA} '{word}'", tmp_path))


def test_no_builder_takes_more_positions_than_its_model_was_made_for_tenfold():
    """The table's number is that of the builder: a slip would be another order of magnitude."""
    compared = 0
    for name, entry in builders().items():
        model = find_model(entry["model"]) if "model" in entry else None
        config = {} if model is None else model.config.get("text_config", model.config)
        positions = config.get("max_position_embeddings")
        if positions is None or "longest_row" not in entry:
            continue
        compared += 1

        assert positions / 10 <= entry["longest_row"] <= positions * 10, name

    assert compared > 60


def test_a_launch_fits_where_its_longest_row_does_and_else_names_how_long_rows_may_be(tmp_path):
    plugins = load_plugins()
    lora = check_launch(command_of(LORA, tmp_path), plugins, Request("h100-sxm-80"))
    full = check_launch(command_of(OTHER_ROWS, tmp_path), plugins, Request("h100-sxm-80"))
    longest = full.extra["longest_seq_len"]
    asked = [Request("h100-sxm-80", {"seq_len": length}) for length in (longest, longest + 64)]
    settled = [check_launch(command_of(OTHER_ROWS, tmp_path), plugins, one) for one in asked]

    assert lora.verdict.answer is Answer.FITS
    assert full.verdict.answer is Answer.UNKNOWN and full.verdict.missing == ("seq_len",)
    assert settled[0].verdict.answer is Answer.FITS
    assert settled[1].verdict.answer is not Answer.FITS


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("", 4096),
        ("dataset.train_on_input=False", 4096),
        ("dataset._component_=torchtune.datasets.alpaca_cleaned_dataset", 4096),
        ("'dataset.split=train[:95%]'", 4096),
        ("dataset.split=test", MOST_OF_A_MODEL),
        ("dataset.source=mine/alpaca", MOST_OF_A_MODEL),
        ("dataset.column_map.output=answer", MOST_OF_A_MODEL),
        ("dataset._component_=mine.alpaca_dataset", MOST_OF_A_MODEL),
    ],
)
def test_rows_that_a_config_of_torchtunes_trains_on_whole_are_as_long_as_its_model_takes(
    words, most, tmp_path
):
    """Llama 2's recipes train to the end on rows that no larger vocabulary makes longer."""
    assert open_values(read(f"{FULL} {words}", tmp_path))["seq_len"] == (1, most)


@pytest.mark.parametrize("dataset", ["alpaca_dataset", "alpaca_cleaned_dataset"])
def test_the_config_that_tells_of_a_dataset_has_a_model_that_refuses_longer_rows(dataset):
    longest, path = longest_row_of(f"torchtune.datasets.{dataset}") or (0, "")
    config = config_values(path)

    assert builders()[config["model"]["_component_"]]["longest_row"] == longest
    assert config["tokenizer"]["max_seq_len"] is None and config["epochs"] >= 1
    assert longest_row_of("torchtune.datasets.multimodal.the_cauldron_dataset") is None

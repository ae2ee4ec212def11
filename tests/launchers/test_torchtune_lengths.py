"""torchtune cuts rows only where tokenizer.max_seq_len says so: without it the model's own builder bounds them."""

from __future__ import annotations

import shlex

import pytest

from preflight.hooks.read_torchtune import preflight_read_launch
from preflight.launch import LaunchCommand
from preflight.launchers.torchtune.table import builders
from preflight.models.registry import find_model
from preflight.pipeline import check_launch
from preflight.plugins import load_plugins
from preflight.readings import open_values
from preflight.request import Request
from preflight.verdict import Answer

LORA = "tune run lora_finetune_single_device --config llama2/7B_lora_single_device"
FULL = "tune run --nproc_per_node 4 full_finetune_distributed --config llama3_1/8B_full"


def command_of(line, folder) -> LaunchCommand:
    return LaunchCommand(tuple(shlex.split(line)), {}, str(folder))


def read(line, folder):
    plan = preflight_read_launch(command=command_of(line, folder))
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("line", "may_be"), [(LORA, (1, 4096)), (FULL, (1, 131072)), (f"{LORA} dataset.packed=False", (1, 4096))]
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
    full = check_launch(command_of(FULL, tmp_path), plugins, Request("h100-sxm-80"))
    longest = full.extra["longest_seq_len"]
    asked = [Request("h100-sxm-80", {"seq_len": length}) for length in (longest, longest + 64)]
    settled = [check_launch(command_of(FULL, tmp_path), plugins, one) for one in asked]

    assert lora.verdict.answer is Answer.FITS
    assert full.verdict.answer is Answer.UNKNOWN and full.verdict.missing == ("seq_len",)
    assert settled[0].verdict.answer is Answer.FITS
    assert settled[1].verdict.answer is not Answer.FITS
